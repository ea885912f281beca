// The pace at which the program remembers flows with `tracking: minimal` is the model's, to the nanosecond: of
// each kind by itself, of all CPUs together. What is remembered tells when it was.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RememberPace as PaceBytes } from "../../src/dataplane/xdp/abi.gen.ts";
import { loadNative, type Native } from "../../src/dataplane/xdp/native.ts";
import { compile } from "../../src/model/compile.ts";
import {
  afterRemembering, isInPace, NOTHING_REMEMBERED, REMEMBER_KINDS, rememberPaces, type PaceTimes, type RememberPace,
} from "../../src/model/remember_pace.ts";
import { EMPTY_LEDGER, type ForwardingTable } from "../../src/model/table.ts";
import { BpfWorld, type Hop } from "../support/bpf_world.ts";
import { configOf } from "../support/configs.ts";
import { randomised } from "../support/counts.ts";
import { ADDON_PATH, BPF_DIRECTORY, describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, ipv4, TCP, UDP } from "../support/packets.ts";
import { Draws } from "../support/random.ts";

const LOOPBACK = 1;
const [SYN, ACK] = [2, 16];
const [OPENED, OTHER, UDP_KIND] = [0, 1, 2];
const [TCP_PORT, UDP_PORT] = [80, 81];
const SECOND_NS = 1_000_000_000n;
const HOUR_NS = 3_600n * SECOND_NS;
/** The coarse clock is behind by a tick at most, and a test run takes no longer than the rest of this. */
const SLACK_NS = SECOND_NS / 4n;
const VIRTUAL = ipv4(203, 0, 113, 10);

/** Two services, every slot of which is changing, since the seed is another one. */
function changingTable(): ForwardingTable {
  const config = configOf({
    pools: { web: ["a", "b", "c"] },
    services: [
      { name: "tcp", port: TCP_PORT, tracking: "minimal", ringSize: 7 },
      { name: "udp", port: UDP_PORT, protocol: "udp", tracking: "minimal", ringSize: 7 },
    ],
  });
  const nowMs = Number(process.hrtime.bigint() / 1_000_000n);
  const intent = { config, hashSeed: 1n, overrides: [], health: new Map(), nowMs: 1 };
  const before = compile(intent, {
    ledger: EMPTY_LEDGER, generation: 0, changes: { nowMs, shown: EMPTY_LEDGER, sweeps: new Map() },
  });
  return compile({ ...intent, hashSeed: 2n }, { ...before, changes: { nowMs, shown: before.ledger, sweeps: new Map() } });
}

const HOP: Hop = {
  destinationMac: Uint8Array.of(2, 0, 0, 0, 0, 9), sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 8), ifindex: LOOPBACK, mtu: 1500,
  resolved: true, vlan: 0, local: false, tunnelSource: new Uint8Array(16), tunnelSourceMask: 0,
};

/** The program with such a table, and the words of its pace. */
class PacedWorld {
  readonly world: BpfWorld;
  readonly #native: Native = loadNative(ADDON_PATH);
  readonly #indexes: readonly number[];
  #client = 0;

  constructor() {
    this.world = new BpfWorld(this.#native, {
      object: join(BPF_DIRECTORY, "pointsman.bpf.o"), switches: {}, flowsMax: 65_536, devices: [LOOPBACK],
    });
    const table = changingTable();
    this.#indexes = table.services.map(({ index }) => index);
    this.world.fill(table, { hop: () => HOP, heartbeatNs: 0n, ringClass: "small" });
  }

  /** Of the service whose packets are of this kind. */
  setPace(kind: number, pace: RememberPace, { nextNs, ownNextNs }: PaceTimes): void {
    this.world.map("remember_pace").update(word(kind), PaceBytes.encode({ ...pace, nextNs }), 0);
    this.world.map("service_pace").update(word(this.#ownAt(kind)), words(ownNextNs), 0);
  }

  times(kind: number): PaceTimes {
    const own = this.world.map("service_pace").lookup(word(this.#ownAt(kind)))!;
    return {
      nextNs: PaceBytes.decode(this.world.map("remember_pace").lookup(word(kind))!).nextNs,
      ownNextNs: new BigUint64Array(own.slice().buffer)[0]!,
    };
  }

  #ownAt(kind: number): number {
    const index = this.#indexes[kind === UDP_KIND ? 1 : 0]!;
    return index * 2 + (kind === OTHER ? 1 : 0);
  }

  outcomes(): number[] {
    return this.world.trackingOutcomes();
  }

  /** The first packet of a new flow: when it was remembered, or null. */
  send(protocol: number, flags: number): bigint | null {
    this.#client += 1;
    const source = ipv4(198, 18, this.#client >> 8, this.#client & 255);
    const destinationPort = protocol === TCP ? TCP_PORT : UDP_PORT;
    this.world.run("pointsman", frameOf({
      source, destination: VIRTUAL, sourcePort: 5000, destinationPort, protocol, flags,
    }), 256);
    const flow = this.world.flow({
      source, sourcePort: 5000, destination: VIRTUAL, destinationPort, protocol,
    });
    return flow?.lastSeenNs ?? null;
  }
}

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function words(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer);
}

/** The CPUs that this thread may run on. */
function allowedCpus(): number[] {
  const [, list = "0"] = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync("/proc/thread-self/status", "utf8")) ?? [];
  return list.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, at) => from + at);
  });
}

function runOn(cpus: readonly number[]): void {
  execFileSync("taskset", ["-pc", cpus.join(","), String(process.pid)], { stdio: "ignore" });
}

const KINDS = [
  ["SYNs", OPENED, TCP, SYN], ["packets of older connections", OTHER, TCP, ACK], ["datagrams", UDP_KIND, UDP, 0],
] as const;

describeKernel("the pace of remembering in the program", [...KERNEL, "tool:taskset"], () => {
  let paced: PacedWorld;
  const allowed = allowedCpus();

  beforeAll(() => { paced = new PacedWorld(); });
  afterAll(() => {
    runOn(allowed);
    paced.world.close();
  });

  it.each(KINDS)("decides on %s as the model does, and notes the same time for the next", (_, kind, protocol, flags) => {
    randomised("decide", ({ seed, count }) => {
      const draws = new Draws(seed);
      const granted = { all: 0, own: 0, nobody: 0 };
      for (let run = 0; run < count; run += 1) {
        const of = { services: draws.between(1, 5), idleMs: draws.between(1000, 3_600_000) };
        const flowsMax = draws.pick([64, 4096, 1 << 20]);
        const pace = rememberPaces({ ...NOTHING_REMEMBERED, flowsMax, tcp: of })[0]!;
        const nowNs = process.hrtime.bigint();
        const times = { nextNs: someTime(draws, pace, nowNs), ownNextNs: someTime(draws, pace, nowNs) };
        const at = (momentNs: bigint): unknown => [isInPace(pace, times, momentNs), isShared(pace, times, momentNs)];
        // What depends on the very moment says nothing about it.
        if (!isDeepStrictEqual(at(nowNs - SLACK_NS), at(nowNs + SLACK_NS))) continue;
        const others = KINDS.map(([, each]) => each).filter((each) => each !== kind);
        for (const each of others) paced.setPace(each, pace, { nextNs: BigInt(draws.word()), ownNextNs: BigInt(draws.word()) });
        const before = others.map((each) => paced.times(each));
        paced.setPace(kind, pace, times);
        const rememberedNs = paced.send(protocol, flags);
        const what = `run ${run} of seed ${seed}: ${pace.intervalNs} ${pace.burstNs} ${times.nextNs - nowNs} ${times.ownNextNs - nowNs}`;
        expect(rememberedNs !== null, what).toBe(isInPace(pace, times, nowNs));
        expect(paced.times(kind), what).toEqual(rememberedNs === null ? times : afterRemembering(pace, times, rememberedNs));
        expect(others.map((each) => paced.times(each)), what).toEqual(before);
        granted[rememberedNs === null ? "nobody" : isShared(pace, times, nowNs) ? "all" : "own"] += 1;
      }
      expect(Math.min(...Object.values(granted))).toBeGreaterThan(0);
    });
  });

  it("counts what may not be remembered", () => {
    const unremembered = 4;
    const before = paced.outcomes();
    const full = { nextNs: process.hrtime.bigint() + HOUR_NS, ownNextNs: 0n };
    for (const kind of REMEMBER_KINDS.keys()) paced.setPace(kind, { intervalNs: HOUR_NS, burstNs: HOUR_NS, ownIntervalNs: 0n }, full);
    for (const [, , protocol, flags] of KINDS) expect(paced.send(protocol, flags)).toBeNull();
    const after = paced.outcomes();
    expect(after.map((count, at) => count - before[at]!)).toEqual(after.map((_, at) => at === unremembered ? KINDS.length : 0));
  });

  it.each(KINDS)("gives %s one burst on all CPUs together, and half of that to a service whose share is used up", (_, kind, protocol, flags) => {
    const burst = 16;
    const pace = { intervalNs: HOUR_NS, burstNs: BigInt(burst) * HOUR_NS, ownIntervalNs: HOUR_NS };
    for (const [ownNextNs, expected] of [[0n, burst], [process.hrtime.bigint() + pace.burstNs, burst / 2]] as const) {
      paced.setPace(kind, pace, { nextNs: 0n, ownNextNs });
      let granted = 0;
      for (let sent = 0; sent < burst * 2; sent += 1) {
        runOn([allowed[sent % allowed.length]!]);
        granted += paced.send(protocol, flags) === null ? 0 : 1;
      }
      expect(granted).toBe(expected);
    }
    runOn(allowed);
  });

  it("refuses nobody where there is no limit", () => {
    for (const kind of REMEMBER_KINDS.keys()) paced.setPace(kind, { intervalNs: 0n, burstNs: 0n, ownIntervalNs: 0n }, { nextNs: 0n, ownNextNs: 0n });
    for (let sent = 0; sent < 500; sent += 1) expect(paced.send(TCP, sent % 2 === 0 ? SYN : ACK)).not.toBeNull();
  });
});

/** Whether it may be remembered whatever its service has had. */
function isShared(pace: RememberPace, { nextNs }: PaceTimes, nowNs: bigint): boolean {
  return isInPace(pace, { nextNs, ownNextNs: nowNs + HOUR_NS * 1000n }, nowNs);
}

/** Long past, right now, near the middle and the end of what may be taken in advance, and far beyond. */
function someTime(draws: Draws, { burstNs }: RememberPace, nowNs: bigint): bigint {
  return draws.pick([
    0n, nowNs - BigInt(draws.below(1e9)), nowNs, nowNs + burstNs / 2n - SLACK_NS, nowNs + burstNs / 2n + SLACK_NS,
    nowNs + burstNs * 3n / 4n, nowNs + burstNs - SLACK_NS, nowNs + burstNs + SLACK_NS, nowNs + burstNs + HOUR_NS,
  ]);
}
