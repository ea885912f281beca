// The addresses of this host in a map of prefixes, for as long as it is open: a dump, then again after each event.
// Knows netlink and one map; what the map is for is the program's business.

import { isLoopback, type Address } from "../../model/address.ts";
import { fixedSource } from "../../model/tunnel_source.ts";
import type { Log } from "../../env.ts";
import { encodeAddressPrefix } from "./map_values.ts";
import type { BpfMap, Native } from "./native.ts";
import { openRequests } from "./netlink/requests.ts";
import { ADDRESS_GROUPS } from "./netlink/rtnetlink.ts";

const NETLINK_ROUTE = 0;
const ENOBUFS = 105;
const ANY = 0;
const NO_FLAGS = new Uint8Array(4);

/** Puts them into the map, and keeps it so until the function that it returns is called. Loopback addresses are none. */
export function followOwnAddresses(native: Native, map: BpfMap, log: Log): () => void {
  const events = native.NetlinkSocket.open(NETLINK_ROUTE, ADDRESS_GROUPS);
  const requests = openRequests(native);
  let held = new Map<string, Address>();
  const take = (): void => {
    const own = requests.addresses().map(({ address }) => address).filter((address) => !isLoopback(address));
    const now = new Map(own.map((address) => [address.text, address]));
    for (const [text, address] of held) if (!now.has(text)) map.delete(encodeAddressPrefix(fixedSource(address)));
    for (const [text, address] of now) if (!held.has(text)) map.update(encodeAddressPrefix(fixedSource(address)), NO_FLAGS, ANY);
    held = now;
  };
  const close = (): void => {
    events.onReadable(null);
    events.close();
    requests.close();
  };
  try {
    // Subscribed first: what changes during the dump comes as an event after it.
    take();
  } catch (error) {
    close();
    throw error;
  }
  events.onReadable(() => {
    try {
      events.receive();
    } catch (error) {
      // What was lost is in the dump.
      if ((error as { errno?: unknown }).errno !== ENOBUFS) throw error;
    }
    try {
      take();
    } catch (error) {
      log.error({ error: String(error) }, "the addresses of this host could not be read: those known before stay");
    }
  });
  return close;
}
