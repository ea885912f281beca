// What holds for every packet and every table: properties of parsePacket() and decide() over random
// worlds. The random part is that of the differential test, which puts the same before the XDP
// program.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VERDICT_NAMES } from "../../src/dataplane/xdp/abi.gen.ts";
import { decide } from "../../src/model/decide.ts";
import { slotFor } from "../../src/model/slot.ts";
import type { Decision, State } from "../../src/model/decide.ts";
import { parsePacket } from "../../src/model/packet.ts";
import { isVirtualAddress, serviceFor, serviceOf } from "../../src/model/service_lookup.ts";
import type { ParsedPacket } from "../../src/model/packet.ts";
import { assertProperty } from "../support/counts.ts";
import { Draws } from "../support/random.ts";
import { randomFrame } from "../support/random_frames.ts";
import { randomWorld } from "../support/random_tables.ts";
import type { RandomWorld } from "../support/random_tables.ts";

const NOW_NS = 10n ** 15n;
const PACKETS_PER_WORLD = 6;

/** A world and some packets that parsed, from one seed. */
const worlds = fc.integer().map((seed) => {
  const draws = new Draws(seed);
  const world = randomWorld(draws, [1], NOW_NS);
  const frames = Array.from({ length: PACKETS_PER_WORLD }, () => randomFrame(draws, world));
  const packets = frames
    .map((frame) => parsePacket(frame))
    .filter((packet) => typeof packet !== "string");
  return { world, frames, packets };
});

function stateFor(world: RandomWorld, packet: ParsedPacket): State {
  const known = world.flows.find(
    ({ tuple }) =>
      tuple.sourcePort === packet.sourcePort &&
      tuple.destinationPort === packet.destinationPort &&
      tuple.protocol === packet.protocol &&
      Buffer.from(tuple.source).equals(packet.source),
  );
  return {
    flow: known?.entry ?? null,
    nowNs: NOW_NS,
    heartbeatNs: world.heartbeatNs,
    neighbour: (id) => world.hops.get(id)!.resolved,
    local: (id) => world.hops.get(id)!.local,
  };
}

function each(body: (world: RandomWorld, packet: ParsedPacket, decision: Decision) => void): void {
  assertProperty(
    "decide",
    fc.property(worlds, ({ world, packets }) => {
      for (const packet of packets)
        body(world, packet, decide(world.table, stateFor(world, packet), packet));
    }),
  );
}

/** Whether a packet with this verdict has reached its backend, or is on its way there. */
function reaches(verdict: Decision["verdict"]): boolean {
  return verdict === "TX_FORWARDED" || verdict === "PASS_LOCAL";
}

/** What is written to the flow table. */
function ofFlow(effects: Decision["effects"]): Decision["effects"] {
  return effects.filter(({ kind }) => kind !== "remember-fragment");
}

describe("decide()", () => {
  it("ends with a verdict that the program has too, and drops only what is for a service", () => {
    const known = new Set<string>(VERDICT_NAMES.slice(1, -1));
    each(({ table }, packet, { verdict, service }) => {
      expect(known).toContain(verdict);
      const ours = serviceOf(table, packet.destination, packet.destinationPort, packet.protocol);
      if (verdict.startsWith("DROP_") || reaches(verdict) || verdict === "TX_ICMP_ERROR")
        expect(service).not.toBeNull();
      // What is refused is so by the service that is asked for.
      if (service !== null) expect([ours, serviceFor(table, ours!, packet.source)]).toContain(service);
      if (service !== null && reaches(verdict)) expect(service).toBe(serviceFor(table, ours!, packet.source));
      if (!isVirtualAddress(table, packet.destination)) expect(verdict).toBe("PASS_NOT_OURS");
    });
  });

  it("writes nothing for a packet that stays, but forgets a flow with nowhere to go", () => {
    each((_world, packet, { verdict, effects: all }) => {
      const effects = ofFlow(all);
      expect(effects.length).toBeLessThanOrEqual(1);
      // The ports of a datagram are remembered with its first fragment, when that gets away.
      const first = packet.kind === "first-fragment" && reaches(verdict);
      expect(all.length - effects.length).toBe(first ? 1 : 0);
      if (packet.kind === "icmp-error") expect(effects).toEqual([]);
      if (reaches(verdict))
        expect(["remember", "touch", undefined]).toContain(effects[0]?.kind);
      else if (verdict === "DROP_NO_BACKEND")
        expect(["forget", undefined]).toContain(effects[0]?.kind);
      else expect(effects).toEqual([]);
    });
  });

  it("takes the ring's word where there is no flow and no connection ID's, whoever asks, and again afterwards", () => {
    each((world, packet, _decision) => {
      const state: State = { ...stateFor(world, packet), flow: null };
      const decision = decide(world.table, state, packet);
      const copy = { ...world.table, services: [...world.table.services].reverse() };
      const elsewhere = decide(copy, state, packet);
      expect(elsewhere).toEqual(decision);
      if (!reaches(decision.verdict)) return;
      const service = decision.service!;
      if (decision.quic === "routed") {
        expect([...service.quicLb!.servers.values()]).toContain(decision.destination!.id);
        expect(decision.destination!.alive).toBe(true);
      } else if (decision.how?.by === "ring") expect(decision.destination!.id).toBe(service.ring.slots[slotFor(service, packet).slot]);
      // The packet that follows is of a flow that was just remembered: it goes the same way.
      const [effect] = ofFlow(decision.effects);
      if (effect?.kind !== "remember" || !decision.destination!.alive) return;
      const flow = {
        destination: effect.destination,
        generation: effect.generation,
        lastSeenNs: service.rememberedSinceNs > NOW_NS ? service.rememberedSinceNs : NOW_NS,
        closes: effect.closes ?? false,
      };
      const next = decide(world.table, { ...state, flow }, { ...packet, syn: false, fin: false, rst: false });
      expect(next).toMatchObject({
        verdict: decision.verdict,
        destination: { id: effect.destination },
      });
      expect(ofFlow(next.effects)).toEqual([]);
    });
  });
});

describe("parsePacket()", () => {
  it("never throws, and never looks beyond the frame", () => {
    assertProperty(
      "decide",
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.integer(), (bytes, seed) => {
        const frame = Uint8Array.from(bytes);
        const type = new Draws(seed).pick([0x0800, 0x86dd, 0x8100, 0x88a8]);
        frame.set(
          [type >> 8, type & 255].slice(0, Math.max(0, frame.length - 12)),
          Math.min(12, frame.length),
        );
        const packet = parsePacket(frame);
        if (typeof packet === "string") return;
        expect(packet.ipOffset + packet.ipLength).toBeLessThanOrEqual(frame.length);
        expect([packet.source.length, packet.destination.length]).toEqual([16, 16]);
      }),
    );
  });

  it("reads the same packet whatever is behind it, and behind one tag more", () => {
    assertProperty(
      "decide",
      fc.property(worlds, ({ frames }) => {
        for (const frame of frames) {
          const packet = parsePacket(frame);
          const longer = new Uint8Array(frame.length + 9).fill(0xa5);
          longer.set(frame);
          if (typeof packet === "string") continue;
          expect(parsePacket(longer)).toEqual(packet);
          if (packet.ipOffset === 22) continue;
          const tagged = new Uint8Array(frame.length + 4);
          tagged.set(frame.subarray(0, 12));
          tagged.set([0x88, 0xa8, 0, 5], 12);
          tagged.set(frame.subarray(12), 16);
          expect(parsePacket(tagged)).toEqual({ ...packet, ipOffset: packet.ipOffset + 4 });
        }
      }),
    );
  });
});
