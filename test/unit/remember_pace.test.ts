// How many flows may be remembered: no more than the table has room for over any time that entries live, however
// services and their idle times change, and each service its share whatever the others do. Knows numbers only.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  afterRemembering, isInPace, NO_PACE, NOTHING_REMEMBERED, REMEMBER_KINDS, rememberLimits, rememberPaces, underPace,
  type PaceTimes, type RememberPace,
} from "../../src/model/remember_pace.ts";
import { RememberPace as PaceBytes } from "../../src/dataplane/xdp/abi.gen.ts";
import type { BpfMap } from "../../src/dataplane/xdp/native.ts";
import { PaceMemory } from "../../src/dataplane/xdp/pace_memory.ts";
import { assertProperty } from "../support/counts.ts";

const MINUTE_MS = 60_000;
const NS_PER_MS = 1_000_000;
const START_MS = 1e9;

/** The words that packets charge, of one kind: shared by services and CPUs. */
class Book {
  pace: RememberPace = NO_PACE;
  nextNs = 0n;
  readonly own = new Map<number, bigint>();

  /** What a packet of this service reads. */
  times(service: number): PaceTimes {
    return { nextNs: this.nextNs, ownNextNs: this.own.get(service) ?? 0n };
  }

  /** What it writes, if it may: at once, or on top of what others have written since it read. */
  remember(service: number, nowNs: bigint, read = this.times(service)): boolean {
    if (!isInPace(this.pace, read, nowNs)) return false;
    const after = afterRemembering(this.pace, this.times(service), nowNs);
    this.nextNs = after.nextNs;
    this.own.set(service, after.ownNextNs);
    return true;
  }

  /** As many as there may be. */
  drain(service: number, nowNs: bigint): number {
    let count = 0;
    while (this.remember(service, nowNs)) count += 1;
    return count;
  }

  change(pace: RememberPace, nowNs: bigint): void {
    this.nextNs = underPace(this.nextNs, this.pace.burstNs, pace.burstNs, nowNs);
    this.pace = pace;
  }
}

function paceOf(flowsMax: number, services: number, idleMs = MINUTE_MS): RememberPace {
  return rememberPaces({ ...NOTHING_REMEMBERED, flowsMax, tcp: { services, idleMs } })[0]!;
}

function bookOf(flowsMax: number, services: number): Book {
  const book = new Book();
  book.change(paceOf(flowsMax, services), 0n);
  return book;
}

function ns(ms: number): bigint {
  return BigInt(Math.round((START_MS + ms) * NS_PER_MS));
}

describe("the pace of remembering", () => {
  it("gives one service a sixth of the table of each kind at once, and more as time goes on", () => {
    const [flowsMax, share] = [6000, 1000];
    const book = bookOf(flowsMax, 1);
    expect(book.drain(0, ns(0))).toBe(share);
    expect(book.drain(0, ns(0))).toBe(0);
    let more = 0;
    for (let ms = 1; ms <= MINUTE_MS; ms += 100) more += book.drain(0, ns(ms));
    // Of the reserve that it has used up it may have its share alone.
    expect(more).toBeGreaterThan(share / 2 - 3);
    expect(more).toBeLessThanOrEqual(share);
    // After a rest all of it is there again, and no more than that.
    expect(book.drain(0, ns(10 * MINUTE_MS))).toBe(share);
  });

  it("keeps half of it for those that have not had their share", () => {
    const book = bookOf(6000, 5);
    // A flood at one service takes what is anybody's and its own.
    expect(book.drain(0, ns(0))).toBe(500 + 100);
    for (const service of [1, 2, 3, 4]) expect(book.drain(service, ns(0))).toBe(100);
    expect([0, 1, 2, 3, 4].map((service) => book.drain(service, ns(0)))).toEqual([0, 0, 0, 0, 0]);
  });

  it("is shared by all CPUs: as many as read before any of them wrote are too many, and no more", () => {
    const cpus = 8;
    const book = bookOf(600, 1);
    while (book.times(0).nextNs + 2n * book.pace.intervalNs <= ns(0) + book.pace.burstNs) book.remember(0, ns(0));
    const read = Array.from({ length: cpus }, () => book.times(0));
    expect(read.filter((times) => book.remember(0, ns(0), times)).length).toBe(cpus);
    // They are owed, and nobody is refused for longer than they last.
    expect(book.drain(0, ns(0))).toBe(0);
    const owedMs = Number(book.pace.ownIntervalNs) * cpus / NS_PER_MS;
    expect(book.drain(0, ns(owedMs + 1))).toBeGreaterThan(0);
  });

  it("never gives the three kinds together more than the table while entries live, however services change", () => {
    const service = fc.record({ protocol: fc.constantFrom("tcp", "udp"), flowIdleMs: fc.integer({ min: 1000, max: 60 * MINUTE_MS }) });
    const step = fc.record({
      // Services that there are from now on; null: the same.
      services: fc.option(fc.array(service, { minLength: 1, maxLength: 8 }), { freq: 1 }),
      gap: fc.integer({ min: 0, max: 100_000 }), asks: fc.array(fc.nat(7), { maxLength: 3 }),
    });
    assertProperty("decide", fc.property(fc.integer({ min: 6, max: 3000 }), fc.array(step, { minLength: 1, maxLength: 25 }), (flowsMax, steps) => {
      const books = REMEMBER_KINDS.map(() => new Book());
      let atMs = 0;
      let services: readonly { readonly protocol: "tcp" | "udp"; readonly flowIdleMs: number }[] = [];
      let idleMs = { tcp: 0, udp: 0 };
      let held: { readonly protocol: "tcp" | "udp"; readonly untilMs: number; readonly count: number }[] = [];
      for (const { services: next, gap, asks } of steps) {
        atMs += gap;
        if (next !== null || services.length === 0) {
          services = next ?? [{ protocol: "tcp", flowIdleMs: MINUTE_MS }];
          const limits = rememberLimits(flowsMax, services.map((each) => ({ ...each, tracking: "minimal" as const })));
          rememberPaces(limits).forEach((pace, kind) => { books[kind]!.change(pace, ns(atMs)); });
          idleMs = { tcp: limits.tcp.idleMs, udp: limits.udp.idleMs };
        }
        for (const index of asks) {
          const asking = services[index];
          if (asking === undefined) continue;
          for (const [kind, book] of books.entries()) {
            if ((REMEMBER_KINDS[kind] === "udp") !== (asking.protocol === "udp")) continue;
            held.push({ protocol: asking.protocol, untilMs: atMs + idleMs[asking.protocol], count: book.drain(index, ns(atMs)) });
          }
        }
        held = held.filter(({ untilMs }) => untilMs > atMs);
        const count = held.reduce((sum, each) => sum + each.count, 0);
        expect(count).toBeLessThanOrEqual(flowsMax);
      }
    }));
  });

  it("never refuses a service that keeps to its share, whoever else asks for how much", () => {
    const asked = fc.record({ gap: fc.nat(5000), flood: fc.nat(200), from: fc.nat(3), wanted: fc.nat(3) });
    assertProperty("decide", fc.property(fc.integer({ min: 4, max: 50 }), fc.array(asked, { maxLength: 60 }), (own, steps) => {
      const services = 5;
      const book = bookOf(own * services * 2 * 6, services);
      let [atMs, ownNextNs] = [0, 0n];
      for (const { gap, flood, from, wanted } of steps) {
        atMs += gap;
        for (let at = 0; at < flood; at += 1) book.remember(from, ns(atMs));
        for (let at = 0; at < wanted; at += 1) {
          // Its share by a count of its own: anything within that is granted.
          const dueNs = (ownNextNs > ns(atMs) ? ownNextNs : ns(atMs)) + book.pace.ownIntervalNs;
          if (dueNs > ns(atMs) + book.pace.burstNs) break;
          ownNextNs = dueNs;
          expect(book.remember(4, ns(atMs))).toBe(true);
        }
      }
    }));
  });

  it("counts those services alone that remember by it", () => {
    const limits = rememberLimits(100, [
      { tracking: "minimal", protocol: "tcp", flowIdleMs: 5 }, { tracking: "minimal", protocol: "tcp", flowIdleMs: 7 },
      { tracking: "full", protocol: "tcp", flowIdleMs: 900 }, { tracking: "none", protocol: "udp", flowIdleMs: 900 },
      { tracking: "minimal", protocol: "udp", flowIdleMs: 3 },
    ]);
    expect(limits).toEqual({ flowsMax: 100, tcp: { services: 2, idleMs: 7 }, udp: { services: 1, idleMs: 3 } });
  });

  it("has a place for every kind, even of a table that is too small for that, and no limit without need", () => {
    const [pace] = rememberPaces({ ...NOTHING_REMEMBERED, flowsMax: 2, tcp: { services: 3, idleMs: MINUTE_MS } });
    expect(pace).toEqual({ intervalNs: 60_000_000_000n, burstNs: 60_000_000_000n, ownIntervalNs: 60_000_000_000n });
    expect(rememberPaces(NOTHING_REMEMBERED)).toEqual([NO_PACE, NO_PACE, NO_PACE]);
    const book = new Book();
    for (let at = 0; at < 5000; at += 1) expect(book.remember(0, ns(0))).toBe(true);
  });

  it("takes along how much was taken in advance when another pace comes", () => {
    expect(underPace(150n, 100n, 1000n, 100n)).toBe(600n);
    expect(underPace(600n, 1000n, 100n, 100n)).toBe(150n);
    // A debt beyond the burst is all of it; none is none.
    expect(underPace(9999n, 1000n, 100n, 100n)).toBe(200n);
    expect([underPace(99n, 1000n, 100n, 100n), underPace(0n, 0n, 100n, 100n)]).toEqual([99n, 0n]);
  });
});

describe("the memory of the pace", () => {
  const [TCP_OTHER, DEBT_NS] = [1, 30_000_000_000n];
  const NOW_NS = 5_000_000_000_000n;

  function held(): { readonly memory: PaceMemory; readonly words: BigUint64Array } {
    const buffer = new ArrayBuffer(REMEMBER_KINDS.length * PaceBytes.size);
    const map: Pick<BpfMap, "mmap"> = { mmap: () => buffer };
    return { memory: new PaceMemory({ remember_pace: map as BpfMap }), words: new BigUint64Array(buffer) };
  }

  it("gives back what was written, of each kind by itself", () => {
    const { memory, words } = held();
    const pace = paceOf(6000, 3);
    memory.write(TCP_OTHER, pace, NOW_NS);
    expect(memory.read()).toEqual([NO_PACE, pace, NO_PACE]);
    expect(words[TCP_OTHER * PaceBytes.size / 8 + PaceBytes.offsets.nextNs / 8]).toBe(0n);
  });

  it("keeps how much was taken in advance, whether idle times become longer or shorter, and until there is no limit", () => {
    const { memory, words } = held();
    const at = (TCP_OTHER * PaceBytes.size + PaceBytes.offsets.nextNs) / 8;
    const pace = paceOf(6000, 1);
    memory.write(TCP_OTHER, pace, NOW_NS);
    words[at] = NOW_NS + DEBT_NS;
    const taken = DEBT_NS * 1000n / pace.burstNs;
    for (const idleMs of [60 * MINUTE_MS, MINUTE_MS / 60, MINUTE_MS]) {
      const next = paceOf(6000, 1, idleMs);
      memory.write(TCP_OTHER, next, NOW_NS);
      expect((words[at] - NOW_NS) * 1000n / next.burstNs).toBe(taken);
    }
    memory.write(TCP_OTHER, NO_PACE, NOW_NS);
    expect(words[at]).toBe(NOW_NS);
  });
});
