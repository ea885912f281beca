// The steps that bring the tries of wildcard services to what they should hold. A group is whole before
// a prefix leads to it, and is not written again. What an address meets at any moment is what it met
// before or what it is to meet: longer prefixes come before shorter ones and go after them.

import { mappedBits } from "../../model/service_address.ts";
import { groupKey, portPrefixText, type GroupImage } from "./groups.ts";
import type { KernelState } from "./kernel_state.ts";
import type { Step } from "./steps.ts";
import type { Planner } from "./planner.ts";

/** The services that the groups name are there already; those that no group names may go afterwards. */
export function planGroups(planner: Planner, want: ReadonlyMap<string, GroupImage>): void {
  const { state, take, settle } = planner;
  const places = new Map([...state.groups].map(([id, { entries }]) => [groupKey(entries), id]));
  const changed = [...want.values()].filter(({ network, key }) => {
    const shown = state.prefixes.get(network.text);
    return shown === undefined || places.get(key) !== shown.group;
  });
  const gone = [...state.prefixes.values()].filter(({ network }) => !want.has(network.text));
  // Who found no exact service, just before there was one, must find the group that he came for.
  if (changed.length + gone.length > 0) settle(state.keyMark);
  for (const image of changed.sort((a, b) => mappedBits(b.network) - mappedBits(a.network))) {
    const group = places.get(image.key) ?? writeGroup(planner, image);
    places.set(image.key, group);
    take({ kind: "set-address-group", network: image.network, group });
  }
  for (const { network } of gone.sort((a, b) => mappedBits(a.network) - mappedBits(b.network))) {
    take({ kind: "remove-address-group", network });
  }
  removeUnused(planner);
}

/** Room for what is held beside what comes, one state of the groups after the other. */
export function groupEntriesNeeded(
  state: KernelState, coming: readonly ReadonlyMap<string, GroupImage>[],
): number {
  const sizes = new Map([...state.groups.values()].map(({ entries }) => [groupKey(entries), entries.size]));
  for (const groups of coming) for (const { key, entries } of groups.values()) sizes.set(key, entries.size);
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

function writeGroup({ state, take }: Planner, { entries }: GroupImage): number {
  let group = 0;
  while (state.groups.has(group)) group += 1;
  for (const entry of entries.values()) take({ kind: "add-group-ports", group, entry });
  return group;
}

/** Groups that no prefix leads to, once no packet can be on its way there. */
function removeUnused({ state, take, settle }: Planner): void {
  const shown = new Set([...state.prefixes.values()].map(({ group }) => group));
  for (const [group, { entries, mark }] of [...state.groups]) {
    if (shown.has(group)) continue;
    settle(mark);
    for (const entry of [...entries.values()]) take({ kind: "remove-group-ports", group, entry });
  }
}

/** What the steps change in what is known of the kernel. */
export function recordGroups(
  state: KernelState, step: Extract<Step, { kind: `${string}group${string}` }>,
): void {
  switch (step.kind) {
    case "add-group-ports": {
      const held = state.groups.get(step.group) ?? { entries: new Map(), mark: 0 };
      held.entries.set(portPrefixText(step.entry), step.entry);
      state.groups.set(step.group, held);
      return;
    }
    case "remove-group-ports": {
      const held = state.groups.get(step.group);
      held?.entries.delete(portPrefixText(step.entry));
      if (held?.entries.size === 0) state.groups.delete(step.group);
      return;
    }
    case "set-address-group":
      leavePrefix(state, step.network.text);
      state.prefixes.set(step.network.text, { network: step.network, group: step.group });
      return;
    case "remove-address-group":
      leavePrefix(state, step.network.text);
      state.prefixes.delete(step.network.text);
      return;
  }
}

/** Packets that found the group there may still be reading it. */
function leavePrefix(state: KernelState, text: string): void {
  const before = state.prefixes.get(text);
  const held = before === undefined ? undefined : state.groups.get(before.group);
  if (held !== undefined) held.mark = state.marks += 1;
}
