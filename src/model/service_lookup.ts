// Whose packet it is: the service of an address, port and protocol. Most specific wins: the longest
// prefix that holds the address, whatever its ports; in it the narrowest range that holds the port;
// where no range of it does, the next shorter prefix. The kernel's maps say the same (bpf/decide.h).
// Then, of a service with regions, that of the client's. Knows tables; must never know a packet.

import {
  compareSpecificity, holdsAddress, holdsPort, isExact, PROTOCOL_NUMBERS, singleAddress,
} from "./service_address.ts";
import { regionBefore } from "./region_changes.ts";
import { askedName, NOWHERE } from "./regions.ts";
import type { ForwardingTable, Service } from "./table.ts";

interface TableIndex {
  /** Exact services, which no other is more specific than. */
  readonly exact: ReadonlyMap<string, Service>;
  /** The most specific first. */
  readonly wildcards: readonly Service[];
  /** Addresses that services have alone. */
  readonly addresses: ReadonlySet<string>;
  readonly byNumber: ReadonlyMap<number, Service>;
  readonly byName: ReadonlyMap<string, Service>;
}

/** Tables are immutable, so an index of one stays right for as long as the table lives. */
const indexes = new WeakMap<ForwardingTable, TableIndex>();

/** The service of an address (16 bytes), port and protocol number, or null. */
export function serviceOf(
  table: ForwardingTable,
  address: Uint8Array,
  port: number,
  protocol: number,
): Service | null {
  const { exact, wildcards } = indexOf(table);
  const found = exact.get(serviceKey(address, port, protocol));
  if (found !== undefined) return found;
  return wildcards.find(({ config }) => PROTOCOL_NUMBERS[config.protocol] === protocol
    && holdsPort(config.ports, port) && holdsAddress(config.network, address)) ?? null;
}

/** Whether some service has this address (16 bytes), at any port. */
export function isVirtualAddress(table: ForwardingTable, address: Uint8Array): boolean {
  const { addresses, wildcards } = indexOf(table);
  return addresses.has(addressKey(address))
    || wildcards.some(({ config }) => holdsAddress(config.network, address));
}

/** What a service is for a client (16 bytes): that of the client's region, or the service itself. */
export function serviceFor(table: ForwardingTable, service: Service, client: Uint8Array): Service {
  const region = service.regions?.prefixes?.regionOf(client) ?? NOWHERE;
  if (region === NOWHERE) return service;
  return indexOf(table).byNumber.get(service.regions!.services[region - 1]!) ?? service;
}

/**
 * The service that a client was of when the window of its regions opened, if that is another one than now and is there
 * still, and until when that counts; null: nothing changes for it, or no longer.
 */
export function serviceBefore(
  table: ForwardingTable, service: Service, client: Uint8Array, nowNs: bigint,
): { readonly service: Service; readonly untilNs: bigint } | null {
  const { byNumber, byName } = indexOf(table);
  const asked = byName.get(askedName(service.config));
  const before = asked?.regions?.before ?? null;
  if (asked === undefined || before === null || nowNs >= before.untilNs) return null;
  const region = regionBefore(before, client);
  if (region === null) return null;
  const former = region === NOWHERE ? asked : byNumber.get(before.services[region - 1] ?? -1);
  return former === undefined || former === service ? null : { service: former, untilNs: before.untilNs };
}

/** A service and those of its regions: whoever has its flows. */
export function everyRegion(table: ForwardingTable, service: Service): Service[] {
  const { byNumber } = indexOf(table);
  return [service, ...(service.regions?.services ?? []).flatMap((index) => byNumber.get(index) ?? [])];
}

function indexOf(table: ForwardingTable): TableIndex {
  const known = indexes.get(table);
  if (known !== undefined) return known;
  const exact = new Map<string, Service>();
  const wildcards: Service[] = [];
  const addresses = new Set<string>();
  for (const service of table.services) {
    if (service.config.region !== null) continue; // nobody's address leads there
    const { network, ports, protocol } = service.config;
    const address = singleAddress(network);
    if (address !== null) addresses.add(addressKey(address.bytes));
    if (isExact(service.config)) {
      const key = serviceKey(network.address.bytes, ports.from, PROTOCOL_NUMBERS[protocol]);
      exact.set(key, service);
    } else wildcards.push(service);
  }
  wildcards.sort((a, b) => compareSpecificity(a.config, b.config));
  const byNumber = new Map(table.services.map((service) => [service.index, service]));
  const byName = new Map(table.services.map((service) => [service.name, service]));
  const index = { exact, wildcards, addresses, byNumber, byName };
  indexes.set(table, index);
  return index;
}

/**
 * Eight characters of sixteen bits: a Map compares strings far quicker than it could compare
 * arrays.
 */
function addressKey(bytes: Uint8Array): string {
  let key = "";
  for (let at = 0; at < 16; at += 2)
    key += String.fromCharCode(((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0));
  return key;
}

function serviceKey(address: Uint8Array, port: number, protocol: number): string {
  return addressKey(address) + String.fromCharCode(port, protocol);
}
