// What the walks over the table of translated flows tell of backends: each flow that fails once, those that were
// answered as many as began, and nothing before an answer was due. Entries are made of their bytes.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NatFlags, NatFlow } from "../../src/dataplane/xdp/abi.gen.ts";
import { NatOutcomes } from "../../src/dataplane/xdp/nat_outcomes.ts";
import type { FlowsSeen } from "../../src/model/flows_seen.ts";
import { NO_NAT, type NatTable } from "../../src/model/nat.ts";
import { NAT } from "../support/configs.ts";
import { assertProperty } from "../support/counts.ts";

const TABLE: NatTable = { ...NO_NAT, timeouts: NAT.timeouts };
const { NAT_ANSWERED, NAT_REPLY, NAT_RST } = NatFlags;
const TCP = 6;
const UDP = 17;

interface Flow {
  readonly beganMs: number;
  readonly protocol: number;
  /** Of the entry of the backend's answers, once it has sent any, and of the client's. */
  readonly flags: number;
  readonly forwardFlags: number;
}

function entry(flags: number, lastSeenMs = 0): Uint8Array {
  const bytes = new Uint8Array(NatFlow.size);
  bytes[NatFlow.offsets.flags] = flags;
  new DataView(bytes.buffer).setBigUint64(NatFlow.offsets.lastSeenNs, BigInt(lastSeenMs) * 1_000_000n, true);
  return bytes;
}

/** One destination and its flows. */
class Scene {
  readonly told: FlowsSeen[] = [];
  readonly flows: Flow[] = [];
  /** What the counter counted before anybody looked. */
  earlier = 1_000_000;
  /** Since when there is a counter. */
  countedFromMs = 0;
  readonly #outcomes: NatOutcomes;
  #nowMs = 0;

  constructor() {
    this.#outcomes = new NatOutcomes({
      begun: () => new Map(this.#nowMs < this.countedFromMs ? [] : [["7/1", this.earlier + this.flows.filter(({ beganMs }) => beganMs <= this.#nowMs).length]]),
      tell: (place, seen) => {
        expect(place).toBe("7/1");
        this.told.push(seen);
      },
    });
  }

  walk(nowMs: number, table = TABLE): void {
    this.#nowMs = nowMs;
    this.#outcomes.begin(table, BigInt(nowMs) * 1_000_000n);
    for (const { beganMs, protocol, flags, forwardFlags } of this.flows) {
      if (beganMs > nowMs) continue;
      this.#outcomes.see({
        place: () => "7/1", protocol, value: entry(NAT_REPLY | flags, beganMs), forward: () => entry(forwardFlags),
      });
    }
    this.#outcomes.finish();
  }

  /** A walk each second. */
  until(endMs: number): void {
    for (let nowMs = this.#nowMs + 1000; nowMs <= endMs; nowMs += 1000) this.walk(nowMs);
  }

  adds(beganMs: number, flow: Partial<Flow>, count = 1): void {
    for (let at = 0; at < count; at++) this.flows.push({ beganMs, protocol: TCP, flags: 0, forwardFlags: 0, ...flow });
  }

  get sums(): Pick<FlowsSeen, "ok" | "failed" | "silent"> {
    const sum = (of: "ok" | "failed" | "silent"): number => this.told.reduce((total, seen) => total + seen[of], 0);
    return { ok: sum("ok"), failed: sum("failed"), silent: sum("silent") };
  }
}

const kinds = {
  established: { flags: NAT_ANSWERED, forwardFlags: NAT_ANSWERED },
  unanswered: {},
  refused: { flags: NAT_ANSWERED | NAT_RST },
  "reset when it was established": { flags: NAT_ANSWERED | NAT_RST, forwardFlags: NAT_ANSWERED },
  "answered, to a client that is gone": { flags: NAT_ANSWERED },
  "a datagram's": { flags: NAT_ANSWERED, protocol: UDP },
  "a silent datagram's": { protocol: UDP },
} as const satisfies Readonly<Record<string, Partial<Flow>>>;

describe("a translated flow", () => {
  it.each([
    ["established", "ok", ""], ["unanswered", "failed", "no answer to a SYN"],
    ["refused", "failed", "connection reset in place of an answer to a SYN"], ["reset when it was established", "ok", ""],
    ["answered, to a client that is gone", "ok", ""], ["a datagram's", "ok", ""], ["a silent datagram's", "silent", "no answer"],
  ] as const)("that is %s is told once, as %s, when an answer was due", (kind, fate, reason) => {
    const scene = new Scene();
    scene.until(2000);
    scene.adds(2500, kinds[kind]);
    scene.until(5000);
    expect(scene.told).toEqual([]);
    scene.until(20_000);
    expect(scene.told).toEqual([{ ok: 0, failed: 0, silent: 0, reason, [fate]: 1 }]);
  });

  it("is nobody's news where it was there before the first walk, with all that was counted", () => {
    const scene = new Scene();
    for (const kind of Object.values(kinds)) scene.adds(10, kind, 3);
    scene.walk(60_000);
    scene.until(80_000);
    expect(scene.told).toEqual([]);
  });

  it("is not told where its entry may be gone before it was looked at", () => {
    const scene = new Scene();
    const short = { ...TABLE, timeouts: { ...TABLE.timeouts, rstMs: 4_999 } };
    for (let nowMs = 1000; nowMs <= 20_000; nowMs += 1000) {
      scene.adds(nowMs + 1, kinds.established);
      scene.walk(nowMs, short);
    }
    expect(scene.told).toEqual([]);
  });

  it.each(["is new", "went back"])("fails nobody while its counter %s: how many did not fail, nobody knows", (why) => {
    const scene = new Scene();
    if (why === "is new") scene.countedFromMs = 3500;
    scene.until(3000);
    if (why === "went back") scene.earlier = 0;
    scene.adds(3600, kinds.established, 95);
    scene.adds(3700, kinds.refused, 5);
    scene.adds(4500, kinds.established, 19);
    scene.adds(4600, kinds.refused, 1);
    scene.until(20_000);
    expect(scene.told).toEqual([{ ok: 19, failed: 1, silent: 0, reason: "connection reset in place of an answer to a SYN" }]);
  });

  it("counts for nothing when a counter went back", () => {
    const scene = new Scene();
    scene.until(3000);
    scene.earlier = 0;
    scene.until(20_000);
    expect(scene.told).toEqual([]);
  });
});

describe("the flows of a backend", () => {
  it("that all fail have no success among them, whenever walks come by", () => {
    assertProperty("judge", fc.property(
      fc.array(fc.integer({ min: 1100, max: 20_000 }), { maxLength: 60 }), fc.array(fc.integer({ min: 900, max: 1900 }), { minLength: 30, maxLength: 30 }),
      (begins, pauses) => {
        const scene = new Scene();
        for (const beganMs of begins) scene.adds(beganMs, beganMs % 2 === 0 ? kinds.unanswered : kinds.refused);
        let nowMs = 100;
        scene.walk(nowMs);
        for (const pause of pauses) scene.walk(nowMs += pause);
        scene.walk(nowMs + 10_000);
        expect(scene.sums).toEqual({ ok: 0, failed: begins.length, silent: 0 });
      }));
  });

  it("add up, of whatever kind they are", () => {
    assertProperty("judge", fc.property(
      fc.array(fc.record({ beganMs: fc.integer({ min: 1100, max: 20_000 }), kind: fc.constantFrom(...Object.values(kinds)) }), { maxLength: 60 }),
      (flows) => {
        const scene = new Scene();
        for (const { beganMs, kind } of flows) scene.adds(beganMs, kind);
        scene.until(40_000);
        const { ok, failed, silent } = scene.sums;
        const among = (...wanted: readonly object[]): number => flows.filter(({ kind }) => wanted.includes(kind)).length;
        expect([failed, silent]).toEqual([among(kinds.unanswered, kinds.refused), among(kinds["a silent datagram's"])]);
        expect(ok).toBe(flows.length - failed - silent);
      }));
  });
});
