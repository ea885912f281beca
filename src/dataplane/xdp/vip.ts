// Virtual addresses on this host: puts them where `vip.assign` says and takes away those that it put
// there. Knows rtnetlink and the mark by which ours are told from an operator's; knows no service.

import type { Address } from "../../model/address.ts";
import { isProxyMetric } from "../address_mark.ts";
import type { AssignedAddress } from "./image.ts";
import type { Requests } from "./netlink/requests.ts";
import type { InterfaceAddress } from "./netlink/rtnetlink.ts";

/** IFA_PROTO of the addresses that are ours, shown by `ip -d address` as proto 0x70. 1…3 are the kernel's. */
export const ADDRESS_MARK = 0x70;
const LOOPBACK_IFINDEX = 1;

export interface AssignDevices {
  /** Where `interface` is: the first one that XDP is attached to. */
  readonly interfaceIfindex: number;
}

function ifindexOf({ on }: AssignedAddress, devices: AssignDevices): number {
  return on === "loopback" ? LOOPBACK_IFINDEX : devices.interfaceIfindex;
}

/**
 * Safe to repeat. An address that an operator put there already stays theirs; one of the proxy
 * plane, which was there before this plane or was killed, becomes ours.
 */
export function assignAddress(requests: Requests, assigned: AssignedAddress, devices: AssignDevices): void {
  const { address } = assigned;
  const ifindex = ifindexOf(assigned, devices);
  const ours = {
    ifindex, address, length: address.family === 4 ? 32 : 128, protocol: ADDRESS_MARK, metric: 0,
  };
  if (requests.addAddress(ours)) return;
  const proxys = requests.addresses().find((each) => (
    each.ifindex === ifindex && each.address.text === address.text && isProxyMetric(each.metric)
  ));
  if (proxys === undefined) return;
  requests.removeAddress(proxys);
  requests.addAddress(ours);
}

/** Takes away what assignAddress() put there, and nothing else. Safe to repeat. */
export function unassignAddress(requests: Requests, assigned: AssignedAddress, devices: AssignDevices): void {
  const ifindex = ifindexOf(assigned, devices);
  const ours = requests.addresses().find((each) => each.ifindex === ifindex && isOurs(each, assigned.address));
  if (ours !== undefined) requests.removeAddress(ours);
}

function isOurs(each: InterfaceAddress, address: Address): boolean {
  return each.protocol === ADDRESS_MARK && each.address.text === address.text;
}

/**
 * Which of these addresses this host holds through us. What is ours and on neither place, since the
 * first interface is another one now, goes.
 */
export function ownAddresses(
  requests: Requests, addresses: readonly Address[], devices: AssignDevices,
): AssignedAddress[] {
  const found: AssignedAddress[] = [];
  for (const each of requests.addresses()) {
    const address = addresses.find((one) => isOurs(each, one));
    if (address === undefined) continue;
    if (each.ifindex === LOOPBACK_IFINDEX) found.push({ address, on: "loopback" });
    else if (each.ifindex === devices.interfaceIfindex) found.push({ address, on: "interface" });
    else requests.removeAddress(each);
  }
  return found;
}

/** Takes away every one of these addresses that is ours, wherever it is. */
export function removeOwnAddresses(requests: Requests, addresses: readonly Address[]): void {
  for (const each of requests.addresses()) {
    if (addresses.some((address) => isOurs(each, address))) requests.removeAddress(each);
  }
}
