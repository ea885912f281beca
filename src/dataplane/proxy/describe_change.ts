// What a table changes for the listeners of the proxy plane, in words for `plan` and the log. Pure; knows
// tables and places only.

import type { ForwardingTable, Service } from "../../model/table.ts";
import type { StepDescription } from "../dataplane.ts";
import type { AssignedAddress } from "./assigned_addresses.ts";
import { listeningText, type ListeningPlace } from "./listening.ts";

export interface Wanted {
  readonly place: ListeningPlace;
  readonly service: Service;
}

interface Listening extends Wanted {
  /** Connections or sessions. */
  readonly size: number;
}

/** What a table asks of the listeners at hand. */
export interface Changes<Listener extends Listening> {
  readonly kept: readonly (Wanted & { readonly listener: Listener })[];
  readonly opened: readonly Wanted[];
  readonly closed: readonly Listener[];
  /** Services that have no place, or one that another service has: name → why. */
  readonly refused: ReadonlyMap<string, string>;
}

interface ChangedAddresses {
  readonly assigned: readonly AssignedAddress[];
  readonly unassigned: readonly AssignedAddress[];
}

export function describeSteps(
  before: ForwardingTable, after: ForwardingTable, changes: Changes<Listening>, addresses: ChangedAddresses,
): StepDescription[] {
  const steps: StepDescription[] = [];
  for (const [name, [first]] of byService(changes.kept)) {
    const { listener, service } = first;
    const detail = describeChange(before, listener.service, after, service);
    if (detail === null) continue;
    steps.push({ action: "update", object: `service ${name}`, detail });
  }
  steps.push(...regionSteps(before, after));
  for (const [name, wanted] of byService(changes.opened)) {
    const detail = `${wanted[0].service.config.protocol} ${textOf(wanted)}`;
    steps.push({ action: "listen", object: `service ${name}`, detail });
  }
  for (const [name, listeners] of byService(changes.closed)) {
    const { protocol } = listeners[0].place;
    const rest = protocol === "tcp" ? "connections may end by themselves" : "sessions end";
    const size = listeners.reduce((sum, listener) => sum + listener.size, 0);
    const detail = `${protocol} ${textOf(listeners)}; ${size} ${rest}`;
    steps.push({ action: "close", object: `service ${name}`, detail });
  }
  for (const { address, device } of addresses.assigned) {
    steps.push({ action: "assign", object: address.text, detail: `on ${device}` });
  }
  for (const { address, device } of addresses.unassigned) {
    steps.push({ action: "unassign", object: address.text, detail: `from ${device}` });
  }
  return steps;
}

/** Regions have no sockets of their own. */
function regionSteps(before: ForwardingTable, after: ForwardingTable): StepDescription[] {
  const regionsOf = ({ services }: ForwardingTable): Map<string, Service> =>
    new Map(services.filter(({ config }) => config.region !== null).map((service) => [service.name, service]));
  const [olds, news] = [regionsOf(before), regionsOf(after)];
  const changed = [...news].flatMap(([name, service]): StepDescription[] => {
    const old = olds.get(name);
    if (old === undefined) return [{ action: "add", object: `service ${name}`, detail: `pool ${service.config.pool}` }];
    const detail = describeChange(before, old, after, service);
    return detail === null ? [] : [{ action: "update", object: `service ${name}`, detail }];
  });
  const gone = [...olds.keys()].filter((name) => !news.has(name));
  return [...changed, ...gone.map((name) => ({ action: "remove", object: `service ${name}`, detail: "connections go on" }))];
}

export function byService<T extends { readonly service: Service }>(
  items: readonly T[],
): ReadonlyMap<string, [T, ...T[]]> {
  const groups = new Map<string, [T, ...T[]]>();
  for (const item of items) {
    const group = groups.get(item.service.name);
    if (group === undefined) groups.set(item.service.name, [item]);
    else group.push(item);
  }
  return groups;
}

export function textOf(items: readonly { readonly place: ListeningPlace }[]): string {
  return listeningText(items.map(({ place }) => place));
}

/** Null: nothing. */
function describeChange(
  before: ForwardingTable, old: Service, after: ForwardingTable, fresh: Service,
): string | null {
  const details: string[] = [];
  if (old.name !== fresh.name) details.push(`was called ${old.name}`);
  if (old.ring.key !== fresh.ring.key) {
    details.push(`ring ${old.ring.key.slice(0, 8)} → ${fresh.ring.key.slice(0, 8)}`);
  }
  const names = (table: ForwardingTable, service: Service): string[] =>
    service.destinations.flatMap((id) => table.destinations.get(id) ?? [])
      .map(({ name, address, port, alive }) => `${name} ${address.text} ${port} ${alive}`);
  const [was, is] = [names(before, old), names(after, fresh)];
  if (was.join() !== is.join()) details.push("backends change");
  if (JSON.stringify(old.config) !== JSON.stringify(fresh.config)) details.push("settings change");
  return details.length === 0 ? null : details.join(", ");
}
