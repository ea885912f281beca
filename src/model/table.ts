// The one currency between the control plane and the data planes: an immutable ForwardingTable, and the
// pure function that makes it from an Intent. Knows no map, socket or file; imports only the model.

import type { Affinity } from "./affinity.ts";
import type { Address } from "./address.ts";
import type { Config, Forwarding, Gue, OrphanAction, ServiceConfig, Subset } from "./config.ts";
import type { Plane } from "./features.ts";
import type { NatTable } from "./nat.ts";
import type { Picking } from "./pick.ts";
import type { RegionsBefore } from "./region_changes.ts";
import type { RegionPrefixes } from "./regions.ts";
import type { RememberLimits } from "./remember_pace.ts";
import type { QuicRouting } from "./quic_route.ts";
import type { PublishedSlots, SlotStates } from "./slot_states.ts";

/** admission: how much of a backend's share may take new flows. */
export const ADMISSION_MAX = 65536;
/** Largest backend id: 15 bits of the slot word. 0 means nobody. */
export const BACKEND_ID_MAX = 32767;

/** Why a value is what it is: its source, and who said so when for overrides. */
export type Provenance =
  | { readonly source: "config" }
  | { readonly source: "membership"; readonly name: string; readonly stale: boolean }
  | {
      readonly source: "override";
      readonly actor: string;
      readonly atMs: number;
      readonly expiresAtMs: number | null;
      readonly reason: string | null;
    }
  | { readonly source: "health"; readonly reason: string; readonly sinceMs: number }
  /** A rule of its pool: who else is up says how much it is needed. */
  | { readonly source: "pool"; readonly reason: string };

/**
 * What an override says. drain: no new flows, and what is left after `timeoutMs` (absent: never) is ended.
 * maintenance: no flows at all, and no probes.
 */
export type OverrideChange =
  | { readonly kind: "weight"; readonly weight: number }
  | { readonly kind: "drain"; readonly timeoutMs?: number | undefined }
  | { readonly kind: "maintenance" };

/** An operator's, API client's or agent's word on one backend. Kept in the state directory. */
export interface Override {
  /** "pool/backend". */
  readonly target: string;
  readonly change: OverrideChange;
  readonly actor: string;
  readonly reason: string | null;
  /** Wall clock, milliseconds. */
  readonly atMs: number;
  readonly expiresAtMs: number | null;
}

/** What the checker says of one backend ("pool/backend"). */
export interface BackendHealth {
  /** May keep flows. A backend that was never probed is `alive: true` with `known: false`. */
  readonly alive: boolean;
  readonly known: boolean;
  /** 0…ADMISSION_MAX. */
  readonly admission: number;
  readonly reason: string;
  readonly sinceMs: number;
  /** Why one that is alive is let have no new flows for a while, though nobody wants it to drain. */
  readonly withheld?: "ejected" | "damped";
}

/** Everything that decides where packets go. `compile` is a function of this value and of the last ledger. */
export interface Intent {
  readonly config: Config;
  /** The resolved flow-hash seed. */
  readonly hashSeed: bigint;
  readonly overrides: readonly Override[];
  /** By "pool/backend"; absent: not probed, taken as alive. */
  readonly health: ReadonlyMap<string, BackendHealth>;
  /** Wall clock, milliseconds: expires overrides. */
  readonly nowMs: number;
  /** The one that the table is for. Absent: no matter which. */
  readonly plane?: Plane;
}

/** One destination: a pool's backend at an effective port with a way of forwarding. Shared by the services that use it. */
export interface Destination {
  /** 1…BACKEND_ID_MAX, stable while the destination exists. */
  readonly id: number;
  readonly generation: number;
  /**
   * xxHash64 of "pool/backend|address:port|forwarding", for adoption; gue with its port and variant. Without a
   * port it says "any".
   */
  readonly identity: bigint;
  /** "pool/backend". */
  readonly name: string;
  readonly pool: string;
  readonly backend: string;
  readonly address: Address;
  /** null: the port that a packet came for, of services that have several. */
  readonly port: number | null;
  readonly forwarding: Forwarding;
  /** Null unless the forwarding is gue. */
  readonly gue: Gue | null;
  readonly mac: string | null;
  /** May keep flows. */
  readonly alive: boolean;
  /** 0…ADMISSION_MAX; the effective value, drains included. */
  readonly admission: number;
  /** Its flows are to be ended: with a reset by a plane that has them, else by being alive no more. */
  readonly resets: boolean;
  readonly weight: number;
  readonly weightProvenance: Provenance;
  readonly stateProvenance: Provenance;
}

/** A lookup table with backends as destination ids. Equal `key`s mean equal slots. */
export interface Ring {
  /** Digest of size and slots (hexadecimal). */
  readonly key: string;
  readonly size: number;
  /** Destination id per slot after lending; 0: nobody. */
  readonly slots: Uint16Array;
  /** Destination id per slot as configured, before lending. */
  readonly configured: Uint16Array;
}

/** A subset of a service's traffic, with the ring of its own pool. */
export interface SplitPart extends Subset {
  readonly ring: Ring;
  /** Ids, in key order. */
  readonly destinations: readonly number[];
  readonly failedOpen: boolean;
  /** Somebody of it may get flows, or where nobody of any part may, says sorry; else the other parts have its slots. */
  readonly takesFlows: boolean;
}

export interface ServiceSplit {
  /** In the order of the file. */
  readonly parts: readonly SplitPart[];
  /** Slot → index of its part, as configured. */
  readonly configured: Uint16Array;
  /** Slot → index of the part that has it now, or NO_BACKEND (src/model/ring.ts). */
  readonly assigned: Uint16Array;
}

/** Who a service's clients are, and what it is for them. */
export interface ServiceRegions {
  /** Null: nobody has read the database, and all clients are the service's own. */
  readonly prefixes: RegionPrefixes | null;
  /** By number of the region, less one: index of the service that has its clients. */
  readonly services: readonly number[];
  /** While clients that came to another region may have flows that nobody remembers; null: no window is open. */
  readonly before: RegionsBefore | null;
}

export interface Service {
  /** Small stable integer, an index of the service maps. */
  readonly index: number;
  readonly name: string;
  readonly config: ServiceConfig;
  readonly hashSeed: bigint;
  readonly ring: Ring;
  /** What the ring is joined of; null: the service has one pool. */
  readonly split: ServiceSplit | null;
  /** null: all clients are the service's own. */
  readonly regions: ServiceRegions | null;
  /** What the slots of the ring remember of changes. */
  readonly states: SlotStates;
  /** CLOCK_MONOTONIC: what nobody has touched since counts for nothing, whatever the flow table has of it. */
  readonly rememberedSinceNs: bigint;
  /** How clients are remembered; null: they are not. */
  readonly affinity: Affinity | null;
  /** How new flows are placed one by one; null: by the ring. */
  readonly picking: Picking | null;
  /** Ids of the destinations this service may use, in key order; where it is split, part by part. */
  readonly destinations: readonly number[];
  /** Too few backends are up, and failOpen or panicBelow made all of them eligible; of a split service, of one of its parts. */
  readonly failedOpen: boolean;
  /** What QUIC connection IDs mean here; null: they are not looked at. */
  readonly quicLb: QuicRouting | null;
}

/** Which ids and indexes are taken, so that they stay put. Recovered from the kernel on adoption. */
export interface Ledger {
  /** identity → id and generation; `live` false: given up, waiting to be reused. */
  readonly destinations: ReadonlyMap<
    bigint,
    { readonly id: number; readonly generation: number; readonly live: boolean }
  >;
  /** "tcp 203.0.113.10:443" or "udp 203.0.113.0/28:any", of a region with " @" and its name → index. */
  readonly services: ReadonlyMap<string, number>;
  /** By the same key: what packets are sent by, which a change starts from. */
  readonly slots: ReadonlyMap<string, PublishedSlots>;
}

export interface ForwardingTable {
  /** +1 for each compile of this supervisor. */
  readonly generation: number;
  readonly instance: string;
  readonly services: readonly Service[];
  /** By id. */
  readonly destinations: ReadonlyMap<number, Destination>;
  readonly orphan: { readonly afterMs: number; readonly action: OrphanAction };
  /** ICMP errors that each CPU may send in a second; 0: none. */
  readonly icmpErrorsPerSecond: number;
  /** A path MTU that a router told of a tunnel counts for so long; 0: none is learned. */
  readonly pathMtuAgeMs: number;
  readonly nat: NatTable;
  /** Clients that are remembered at most; 0: no service remembers any. */
  readonly affinitiesMax: number;
  /** What limits how many flows `tracking: minimal` remembers. */
  readonly remember: RememberLimits;
  readonly ledger: Ledger;
  /** Things an operator should hear of: a positive weight without a slot, a pool failed open. */
  readonly warnings: readonly string[];
}

export const EMPTY_LEDGER: Ledger = { destinations: new Map(), services: new Map(), slots: new Map() };
