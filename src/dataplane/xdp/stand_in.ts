// Addresses that stand in for clients while `doctor` tests the way back: on lo, and marked, so that what a
// killed test left is known and taken away. Knows rtnetlink and the mark; connects to nobody.

import type { Address } from "../../model/address.ts";
import type { Requests } from "./netlink/requests.ts";
import type { InterfaceAddress } from "./netlink/rtnetlink.ts";

/** IFA_PROTO of stand-ins, beside 0x70 of virtual addresses. */
export const STAND_IN_MARK = 0x71;
const LOOPBACK_IFINDEX = 1;

export type AddressRequests = Pick<Requests, "addresses" | "addAddress" | "removeAddress">;

/** False when somebody else has it on lo. */
export function putStandIn(requests: AddressRequests, address: Address): boolean {
  const length = address.family === 4 ? 32 : 128;
  return requests.addAddress({ ifindex: LOOPBACK_IFINDEX, address, length, protocol: STAND_IN_MARK, metric: 0 });
}

export function isStandIn({ ifindex, protocol }: InterfaceAddress): boolean {
  return ifindex === LOOPBACK_IFINDEX && protocol === STAND_IN_MARK;
}

/** Takes away every stand-in, whoever put it there; answers which. Safe to repeat. */
export function removeStandIns(requests: AddressRequests): Address[] {
  const ours = requests.addresses().filter(isStandIn);
  for (const each of ours) requests.removeAddress(each);
  return ours.map(({ address }) => address);
}
