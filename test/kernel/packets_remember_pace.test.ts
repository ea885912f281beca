// The pace at which the program remembers flows with `tracking: minimal` is the model's, to the nanosecond:
// of those that are opened and of the others, on each CPU by itself. What is remembered tells when it was.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Settings } from "../../src/dataplane/xdp/abi.gen.ts";
import { loadNative, type Native } from "../../src/dataplane/xdp/native.ts";
import { compile } from "../../src/model/compile.ts";
import { afterRemembering, isInPace, rememberPace, type RememberPace } from "../../src/model/remember_pace.ts";
import { EMPTY_LEDGER, type ForwardingTable } from "../../src/model/table.ts";
import { BpfWorld, type Hop } from "../support/bpf_world.ts";
import { configOf } from "../support/configs.ts";
import { randomised } from "../support/counts.ts";
import { ADDON_PATH, BPF_DIRECTORY, describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, ipv4, TCP, UDP } from "../support/packets.ts";
import { Draws } from "../support/random.ts";

const LOOPBACK = 1;
const [SYN, ACK] = [2, 16];
const [OPENED, OTHER] = [0, 1];
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
  #client = 0;

  constructor() {
    this.world = new BpfWorld(this.#native, {
      object: join(BPF_DIRECTORY, "pointsman.bpf.o"), switches: {}, flowsMax: 65_536, devices: [LOOPBACK],
    });
    this.world.fill(changingTable(), { hop: () => HOP, heartbeatNs: 0n, ringClass: "small" });
  }

  get cpus(): number { return this.#native.possibleCpus(); }

  setPace({ intervalNs, burstNs }: RememberPace): void {
    const map = this.world.map("settings");
    const words = new BigUint64Array(map.lookup(word(0))!.slice().buffer);
    words[Settings.offsets.rememberIntervalNs / 8] = intervalNs;
    words[Settings.offsets.rememberBurstNs / 8] = burstNs;
    map.update(word(0), new Uint8Array(words.buffer), 0);
  }

  setNext(kind: number, next: readonly bigint[]): void {
    this.world.map("remember_pace").update(word(kind), new Uint8Array(BigUint64Array.from(next).buffer), 0);
  }

  next(kind: number): bigint[] {
    return [...new BigUint64Array(this.world.map("remember_pace").lookup(word(kind))!.slice().buffer)];
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
  ["SYNs", OPENED, TCP, SYN], ["packets of older connections", OTHER, TCP, ACK], ["datagrams", OTHER, UDP, 0],
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
      for (let run = 0; run < count; run += 1) {
        const pace = rememberPace(draws.between(64, 1 << 20), draws.between(1000, 3_600_000), draws.between(1, 64));
        const nowNs = process.hrtime.bigint();
        // Long past, right now, near the end of what may be taken in advance on either side of it, and far beyond.
        const nextNs = draws.pick([
          0n, nowNs - BigInt(draws.below(1e9)), nowNs, nowNs + pace.burstNs - SLACK_NS,
          nowNs + pace.burstNs + SLACK_NS, nowNs + BigInt(draws.below(2e9)), nowNs + pace.burstNs + HOUR_NS,
        ]);
        // What depends on the very moment says nothing about it.
        if (isInPace(pace, nextNs, nowNs - SLACK_NS) !== isInPace(pace, nextNs, nowNs + SLACK_NS - 1n)) continue;
        paced.setPace(pace);
        const others = Array.from({ length: paced.cpus }, () => BigInt(draws.word()));
        paced.setNext(kind, Array.from({ length: paced.cpus }, () => nextNs));
        paced.setNext(1 - kind, others);
        const rememberedNs = paced.send(protocol, flags);
        const what = `run ${run} of seed ${seed}: ${pace.intervalNs} ${pace.burstNs} ${nextNs - nowNs}`;
        expect(rememberedNs !== null, what).toBe(isInPace(pace, nextNs, nowNs));
        const changed = paced.next(kind).filter((each) => each !== nextNs);
        expect(changed, what).toEqual(rememberedNs === null ? [] : [afterRemembering(pace, nextNs, rememberedNs)]);
        expect(paced.next(1 - kind), what).toEqual(others);
      }
    });
  });

  it("counts what may not be remembered", () => {
    const unremembered = 4;
    paced.setPace({ intervalNs: HOUR_NS, burstNs: 0n });
    const before = paced.outcomes();
    for (const kind of [OPENED, OTHER]) paced.setNext(kind, Array.from({ length: paced.cpus }, () => process.hrtime.bigint() + HOUR_NS / 2n));
    for (const [, , protocol, flags] of KINDS) expect(paced.send(protocol, flags)).toBeNull();
    const after = paced.outcomes();
    expect(after.map((count, at) => count - before[at]!)).toEqual(after.map((_, at) => at === unremembered ? KINDS.length : 0));
  });

  it.each(KINDS)("gives %s a burst on each CPU by itself", (_, kind, protocol, flags) => {
    const burst = 8;
    paced.setPace({ intervalNs: HOUR_NS, burstNs: BigInt(burst - 1) * HOUR_NS });
    for (const each of [OPENED, OTHER]) paced.setNext(each, Array.from({ length: paced.cpus }, () => 0n));
    for (const cpu of allowed) {
      runOn([cpu]);
      const granted = Array.from({ length: burst * 2 }, () => paced.send(protocol, flags)).map((at) => at !== null);
      expect(granted).toEqual(granted.map((__, at) => at < burst));
      const used = paced.next(kind).map((nextNs) => nextNs !== 0n);
      expect(used).toEqual(used.map((__, other) => allowed.slice(0, allowed.indexOf(cpu) + 1).includes(other)));
      expect(paced.next(1 - kind).every((nextNs) => nextNs === 0n)).toBe(true);
    }
    runOn(allowed);
  });

  it("asks nobody where every flow is remembered, nor where none is", () => {
    paced.setPace({ intervalNs: 0n, burstNs: 0n });
    for (const each of [OPENED, OTHER]) paced.setNext(each, Array.from({ length: paced.cpus }, () => 0n));
    for (let sent = 0; sent < 500; sent += 1) expect(paced.send(TCP, sent % 2 === 0 ? SYN : ACK)).not.toBeNull();
  });
});
