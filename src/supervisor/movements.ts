// What a new table would move, and what of that would break: slots exactly, service by service, and the flows
// held now as well as they are known. Pure; compares tables, must never apply one.

import type { Movement, Plan } from "../api/schemas.ts";
import type { Counters } from "../dataplane/dataplane.ts";
import { serviceKey } from "../model/service_address.ts";
import { trackingOf } from "../model/flow_decide.ts";
import { amountOf, NO_FLOWS, sumOfAmounts, UNKNOWN_AMOUNT, type FlowAmount } from "../model/held_flows.ts";
import { translates } from "../model/nat.ts";
import { isNatService } from "../model/nat_decide.ts";
import { isSameScheme, schemeOf } from "../model/slot.ts";
import type { Destination, ForwardingTable, Ring, Service } from "../model/table.ts";

type Mode = "xdp" | "proxy";

/**
 * Services are the same when protocol, address and port are: a new name moves nothing. `before` null
 * counts as an empty table.
 */
export function movements(before: ForwardingTable | null, after: ForwardingTable, mode: Mode): Movement[] {
  const olds = byKey(before?.services ?? []);
  const moves = after.services.map((service): Movement => {
    const old = olds.get(serviceKey(service.config));
    const ringSize = service.ring.size;
    if (before === null || old === undefined) {
      return { service: service.name, change: "added", slotsMoved: 0, slotsBroken: 0, ringSize, share: 0, brokenShare: 0 };
    }
    const { moved, broken } = slotsOf(before, old, after, service, mode);
    const isSame = moved === 0 && sameFields(old, service);
    return {
      service: service.name, change: isSame ? "unchanged" : "changed", slotsMoved: moved, slotsBroken: broken,
      ringSize, share: moved / ringSize, brokenShare: broken / ringSize,
    };
  });
  const news = byKey(after.services);
  for (const [key, { name, ring: { size } }] of olds) {
    if (news.has(key)) continue;
    const slotsBroken = mode === "proxy" ? 0 : size;
    moves.push({
      service: name, change: "removed", slotsMoved: size, slotsBroken, ringSize: size, share: 1, brokenShare: slotsBroken / size,
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

/**
 * Where a connection ends, whatever its backend is called and however packets get there: direct ways and tunnels end
 * at the virtual address on a host, translated ones at an address and port of the backend's own.
 */
function placeOf({ address, port, forwarding }: Destination): string {
  return translates(forwarding) ? `${forwarding} ${address.text} ${port ?? "any"}` : address.text;
}

/** Places where flows that are remembered may stay. */
function kept(after: ForwardingTable): ReadonlySet<string> {
  return new Set([...after.destinations.values()].filter(({ alive }) => alive).map(placeOf));
}

/** Whether flows stay at a backend that the ring does not name for them any more. */
function remembers(service: Service): boolean {
  return isNatService(service) || trackingOf(service) !== "none";
}

interface SlotsMoved {
  readonly moved: number;
  /** Of those, the ones whose flows lose their connection. */
  readonly broken: number;
}

/** Of the new ring. */
function slotsOf(
  before: ForwardingTable, old: Service, after: ForwardingTable, service: Service, mode: Mode,
): SlotsMoved {
  const from = placesOf(before, old.ring);
  const to = placesOf(after, service.ring);
  const stays = remembers(service) ? kept(after) : new Set<string>();
  const found = isSameScheme(schemeOf(old), schemeOf(service)) ? slotBySlot(from, to, stays) : byShares(from, to, stays);
  // The proxy's connections end where they began, whatever the ring says.
  return mode === "proxy" ? { ...found, broken: 0 } : found;
}

/** By slot; null: nobody. */
function placesOf({ destinations }: ForwardingTable, { slots }: Ring): readonly (string | null)[] {
  const places = new Map([...destinations].map(([id, destination]) => [id, placeOf(destination)]));
  return [...slots].map((id) => places.get(id) ?? null);
}

type Places = readonly (string | null)[];

function slotBySlot(from: Places, to: Places, stays: ReadonlySet<string>): SlotsMoved {
  let [moved, broken] = [0, 0];
  for (const [slot, place] of to.entries()) {
    const before = from[slot] ?? null;
    if (before === place) continue;
    moved += 1;
    if (before !== null && !stays.has(before)) broken += 1;
  }
  return { moved, broken };
}

/**
 * Another seed, input or size sends every flow to a slot that has nothing to do with its old one. Expected: it
 * stays only by chance, with the product of its backend's old and new share.
 */
function byShares(from: Places, to: Places, stays: ReadonlySet<string>): SlotsMoved {
  const [old, next] = [sharesOf(from), sharesOf(to)];
  let [moved, broken] = [0, 0];
  for (const [place, share] of old) {
    const goes = share * (1 - (next.get(place) ?? 0));
    moved += goes;
    if (place !== null && !stays.has(place)) broken += goes;
  }
  return { moved: Math.round(moved * to.length), broken: Math.round(broken * to.length) };
}

function sharesOf(places: Places): ReadonlyMap<string | null, number> {
  const shares = new Map<string | null, number>();
  for (const place of places) shares.set(place, (shares.get(place) ?? 0) + 1 / places.length);
  return shares;
}

const ALL_UNKNOWN: Plan["flows"] = { moved: UNKNOWN_AMOUNT, broken: UNKNOWN_AMOUNT, total: UNKNOWN_AMOUNT };

/**
 * Of the flows held now, those that meet another backend: of XDP's, service by service, all where the service goes; as
 * many as the slots that break have where nobody remembers them; else those whose backend goes away.
 */
export function movedFlows(
  before: ForwardingTable | null, after: ForwardingTable, counters: Counters | null, mode: Mode,
): Plan["flows"] {
  if (counters === null || before === null) return ALL_UNKNOWN;
  const total = sumOfAmounts([...counters.serviceFlows.values()].map(amountOf));
  // Connections of the proxy end where they began.
  if (mode === "proxy") return { moved: NO_FLOWS, broken: NO_FLOWS, total };
  const news = byKey(after.services);
  const stays = kept(after);
  const moved = sumOfAmounts(before.services.flatMap((old): FlowAmount[] => {
    const service = news.get(serviceKey(old.config));
    if (service === undefined) return [amountOf(counters.serviceFlows.get(old.name))];
    if (remembers(old) && remembers(service)) return flowsOfGone(before, old, stays, counters);
    // Flows that nobody remembers follow the slots, and all slots have as many.
    const { broken } = slotsOf(before, old, after, service, mode);
    return broken === 0 ? [] : [partOf(amountOf(counters.serviceFlows.get(old.name)), broken / service.ring.size)];
  }));
  return { moved, broken: moved, total };
}

function flowsOfGone(
  before: ForwardingTable, { name, destinations }: Service, stays: ReadonlySet<string>, { flowsAt }: Counters,
): FlowAmount[] {
  const gone = destinations.map((id) => before.destinations.get(id))
    .filter((each) => each !== undefined && !stays.has(placeOf(each)));
  return gone.map((each) => amountOf(flowsAt?.get(name)?.get(each!.name)));
}

function partOf({ count, kind }: FlowAmount, share: number): FlowAmount {
  return { count: count === null ? null : Math.round(count * share), kind };
}
