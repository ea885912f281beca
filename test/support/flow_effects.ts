// Whether the flow table holds what a decision asked for. Knows entries and effects; knows no map.

import type { Decision, FlowEntry } from "../../src/model/decide.ts";

/** The program reads a clock that ticks; ours does not. */
export const TICK_NS = 50_000_000n;

/** What is wrong with the flow table after this decision, or null. */
export function effectProblem(
  decision: Decision,
  held: FlowEntry | null,
  found: Required<FlowEntry> | null,
  startNs: bigint,
  endNs: bigint,
): string | null {
  const effect = decision.effects.find(
    ({ kind }) => kind !== "remember-fragment" && kind !== "nat-write" && kind !== "take-turn" && kind !== "keep-affinity",
  );
  const isNow =
    found !== null && found.lastSeenNs >= startNs - TICK_NS && found.lastSeenNs <= endNs;
  switch (effect?.kind) {
    case undefined:
    case "remember-fragment":
    case "note-mtu":
    case "note-unreachable":
    case "nat-write":
    case "take-turn":
    case "keep-affinity":
      return isSameEntry(found, held)
        ? null
        : `no effect wanted, found ${show(found)} for ${show(held)}`;
    case "forget":
      return found === null ? null : `forget wanted, found ${show(found)}`;
    case "touch":
      return isNow &&
        found.destination === held?.destination &&
        found.generation === held.generation &&
        found.other === (held.other ?? 0) &&
        found.closes === (effect.closes ?? held.closes ?? false)
        ? null
        : `touch wanted, found ${show(found)} for ${show(held)}`;
    case "remember":
      return isNow &&
        found.destination === effect.destination &&
        found.generation === effect.generation &&
        found.other === (effect.other ?? 0) &&
        found.closes === (effect.closes ?? false)
        ? null
        : `remember ${effect.destination} or ${effect.other ?? 0} wanted, found ${show(found)} for ${show(held)}`;
  }
}

export function isSameEntry(a: FlowEntry | null, b: FlowEntry | null): boolean {
  if (a === null || b === null) return a === b;
  return (
    a.destination === b.destination &&
    a.generation === b.generation &&
    (a.other ?? 0) === (b.other ?? 0) &&
    (a.closes ?? false) === (b.closes ?? false) &&
    a.lastSeenNs === b.lastSeenNs
  );
}

function show(entry: FlowEntry | null): string {
  return entry === null
    ? "none"
    : `${entry.destination}/${entry.generation} or ${entry.other ?? 0}${entry.closes === true ? ", closing," : ""} at ${entry.lastSeenNs}`;
}
