// The addresses of this host in a map of prefixes, for as long as it is open: a dump, then again after each event.
// Knows netlink and one map; what the map is for is the program's business. What the kernel refuses is told, and
// tried again: nothing is taken for written that is not.

import { isLoopback, type Address } from "../../model/address.ts";
import { fixedSource } from "../../model/tunnel_source.ts";
import type { Cancel, Env } from "../../env.ts";
import { encodeAddressPrefix } from "./map_values.ts";
import type { BpfMap, Native } from "./native.ts";
import { openRequests } from "./netlink/requests.ts";
import { ADDRESS_GROUPS } from "./netlink/rtnetlink.ts";

const NETLINK_ROUTE = 0;
const ENOBUFS = 105;
const ANY = 0;
const NO_FLAGS = new Uint8Array(4);
const RETRY_MS = 1_000;

export interface OwnAddressesParts {
  readonly read: () => readonly Address[];
  readonly map: Pick<BpfMap, "update" | "delete">;
  readonly env: Pick<Env, "clock" | "log">;
}

/** The map's side of it: reads and writes when it is told to. Loopback addresses are none. */
export class OwnAddresses {
  readonly #parts: OwnAddressesParts;
  /** In the map, by text. */
  readonly #held = new Map<string, Address>();
  #cancelRetry: Cancel | null = null;
  #told = "";

  constructor(parts: OwnAddressesParts) {
    this.#parts = parts;
  }

  /** Throws for the first that was refused, and then leaves nothing in the map. */
  begin(): void {
    try {
      const refused = this.#bring();
      for (const error of refused.values()) throw error;
    } catch (error) {
      for (const address of this.#held.values()) this.#forget(address);
      throw error;
    }
  }

  /** Again. Those that were refused are named once and tried again later; the others are right. */
  follow(): void {
    this.stop();
    const refused = this.#refusedNow();
    const { clock, log } = this.#parts.env;
    if (refused !== "" && refused !== this.#told) {
      log.error({ refused }, "the program does not know all addresses of this host: trying again");
    }
    if (refused === "" && this.#told !== "") log.info({}, "the program knows all addresses of this host again");
    this.#told = refused;
    if (refused !== "") this.#cancelRetry = clock.after(RETRY_MS, () => { this.follow(); });
  }

  stop(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = null;
  }

  #refusedNow(): string {
    try {
      return [...this.#bring()].map(([text, error]) => `${text}: ${String(error)}`).join("; ");
    } catch (error) {
      return `none could be read: ${String(error)}`;
    }
  }

  /** By text, what the kernel said of those that it refused to add or remove. */
  #bring(): Map<string, unknown> {
    const own = this.#parts.read().filter((address) => !isLoopback(address));
    const now = new Map(own.map((address) => [address.text, address]));
    const refused = new Map<string, unknown>();
    const attempt = (address: Address, write: () => void): void => {
      try {
        write();
      } catch (error) {
        refused.set(address.text, error);
      }
    };
    // Room is made before it is needed.
    for (const [text, address] of [...this.#held]) if (!now.has(text)) attempt(address, () => { this.#forget(address); });
    for (const [text, address] of now) {
      if (this.#held.has(text)) continue;
      attempt(address, () => {
        this.#parts.map.update(encodeAddressPrefix(fixedSource(address)), NO_FLAGS, ANY);
        this.#held.set(text, address);
      });
    }
    return refused;
  }

  #forget(address: Address): void {
    this.#parts.map.delete(encodeAddressPrefix(fixedSource(address)));
    this.#held.delete(address.text);
  }
}

/** Puts them into the map, and keeps it so until the function that it returns is called. */
export function followOwnAddresses(native: Native, map: BpfMap, env: Pick<Env, "clock" | "log">): () => void {
  const events = native.NetlinkSocket.open(NETLINK_ROUTE, ADDRESS_GROUPS);
  const requests = openRequests(native);
  const own = new OwnAddresses({ read: () => requests.addresses().map(({ address }) => address), map, env });
  const close = (): void => {
    own.stop();
    events.onReadable(null);
    events.close();
    requests.close();
  };
  try {
    // Subscribed first: what changes during the dump comes as an event after it.
    own.begin();
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
    own.follow();
  });
  return close;
}
