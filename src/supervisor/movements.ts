// What a new table would move: per service the slots that would name another destination, and of the
// flows held now those whose destination goes away. Pure; compares tables, must never apply one.

import type { Movement, Plan } from "../api/schemas.ts";
import type { Counters } from "../dataplane/dataplane.ts";
import { serviceKey } from "../model/compile.ts";
import type { ForwardingTable, Ring, Service } from "../model/table.ts";

/**
 * Services are the same when protocol, address and port are: a new name moves nothing. `before` null
 * counts as an empty table.
 */
export function movements(before: ForwardingTable | null, after: ForwardingTable): Movement[] {
  const olds = byKey(before?.services ?? []);
  const moves = after.services.map((service): Movement => {
    const old = olds.get(serviceKey(service.config));
    const ringSize = service.ring.size;
    if (old === undefined) {
      return { service: service.name, change: "added", slotsMoved: 0, ringSize, share: 0 };
    }
    const slotsMoved = movedSlots(old, service);
    const isSame = slotsMoved === 0 && sameFields(old, service);
    return {
      service: service.name, change: isSame ? "unchanged" : "changed",
      slotsMoved, ringSize, share: slotsMoved / ringSize,
    };
  });
  const news = byKey(after.services);
  for (const [key, { name, ring }] of olds) {
    if (news.has(key)) continue;
    moves.push({
      service: name, change: "removed", slotsMoved: ring.size, ringSize: ring.size, share: 1,
    });
  }
  return moves;
}

function byKey(services: readonly Service[]): ReadonlyMap<string, Service> {
  return new Map(services.map((service) => [serviceKey(service.config), service]));
}

function sameFields(a: Service, b: Service): boolean {
  const textOf = (service: Service): string =>
    JSON.stringify([service.config, String(service.hashSeed), service.failedOpen, service.destinations]);
  return textOf(a) === textOf(b);
}

/** Of the new ring. Another seed, input or size sends every flow to a slot that has nothing to do with its old one. */
function movedSlots(old: Service, service: Service): number {
  const { ring } = service;
  const rehashed = old.hashSeed !== service.hashSeed || old.config.hash !== service.config.hash
    || JSON.stringify(old.config.sourcePrefix) !== JSON.stringify(service.config.sourcePrefix)
    || old.ring.size !== ring.size;
  return rehashed ? rehashedSlots(old.ring, ring) : differentSlots(old.ring, ring);
}

function differentSlots(old: Ring, ring: Ring): number {
  if (old === ring || old.key === ring.key) return 0;
  let moved = 0;
  for (let slot = 0; slot < ring.size; slot++) {
    if (old.slots[slot] !== ring.slots[slot]) moved += 1;
  }
  return moved;
}

/** Expected: a flow stays only by chance, with the product of its backend's old and new share. */
function rehashedSlots(old: Ring, ring: Ring): number {
  const before = sharesOf(old);
  let stays = 0;
  for (const [id, share] of sharesOf(ring)) stays += share * (before.get(id) ?? 0);
  return Math.round((1 - stays) * ring.size);
}

function sharesOf({ slots, size }: Ring): ReadonlyMap<number, number> {
  const shares = new Map<number, number>();
  for (const id of slots) shares.set(id, (shares.get(id) ?? 0) + 1 / size);
  return shares;
}

/**
 * Flows that the plane holds stay at their backend as long as this is in the table. So the ones that
 * move are those of destinations that go away; `unknown` where the plane cannot tell flows by backend.
 */
export function movedFlows(
  before: ForwardingTable | null, after: ForwardingTable, counters: Counters | null,
): Plan["flows"] {
  // Of flows that nobody remembers, nobody knows how many there are.
  if (counters === null || counters.flows.kind === "unknown" || counters.flows.kind === "remembered") {
    return { kind: "unknown", moved: null, total: null };
  }
  const total = counters.flows.count;
  if (total > 0 && counters.backendFlows.size === 0) {
    return { kind: "unknown", moved: null, total };
  }
  const kept = new Set([...after.destinations.values()].map((each) => each.identity));
  const gone = new Set<string>();
  for (const destination of before?.destinations.values() ?? []) {
    if (!kept.has(destination.identity)) gone.add(destination.name);
  }
  let moved = 0;
  for (const [name, flows] of counters.backendFlows) {
    if (gone.has(name)) moved += flows.count;
  }
  return { kind: "estimate", moved, total };
}
