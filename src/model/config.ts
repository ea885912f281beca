// The effective configuration as the rest of the program sees it: every default filled in, durations
// in milliseconds, sizes in bytes, addresses parsed. src/config turns text into this value; nobody
// else builds one from text. Pure types: this file knows no YAML and no schema.

import type { Address, Prefix } from "./address.ts";
import type { PoolHealth } from "./health_check.ts";
import type { NatConfig } from "./nat.ts";
import type { RegionPrefixes } from "./regions.ts";
import type { ServiceAddress } from "./service_address.ts";

export type Protocol = "tcp" | "udp";
export type Forwarding = "l2" | "ipip" | "gue" | "gre" | "nat" | "fullnat";
export type DataplaneMode = "auto" | "xdp" | "proxy";
export type XdpMode = "auto" | "native" | "generic";
export type OrphanAction = "keep" | "pass" | "drop";
export type VipAssign = "none" | "loopback" | "interface";
export type HashInput = "5-tuple" | "source-ip";
export type Algorithm =
  | "maglev" | "consistent-hash"
  | "round-robin" | "random" | "least-connections" | "power-of-two" | "bounded-load" | "least-response-time";
export type Tracking = "minimal" | "full" | "none";

/** Where the 64-bit flow-hash seed comes from: `file` is read by the supervisor, `state` is created once. */
export type HashSeed =
  | { readonly from: "inline"; readonly seed: bigint }
  | { readonly from: "file"; readonly path: string }
  | { readonly from: "state" };

export interface BackendConfig {
  readonly name: string;
  readonly address: Address;
  /** null: the service's port, or where that has several, the packet's own. */
  readonly port: number | null;
  /** Relative share, 0…65535; 0 takes no slots. */
  readonly weight: number;
  /** Key of the ring permutation; null: "address:port" (address alone in an affinity group). */
  readonly hashKey: string | null;
  /** Static next hop, six bytes as "aa:bb:cc:dd:ee:ff", or null: resolved by the kernel. */
  readonly mac: string | null;
  /** Server IDs in QUIC connection IDs, lower-case hexadecimal. */
  readonly serverIds: readonly string[];
  /** 0: the first to take flows. Higher ones are reserves, of which the lower go first. */
  readonly priority: number;
  /** Where it is; null: nobody says. */
  readonly zone: string | null;
}

/** How many backends of a pool are to be up, and who is told when they are not. */
export interface PoolQuorum {
  readonly minimum: Minimum;
  /** A quorum that was lost counts as regained when there have been enough for so long. */
  readonly regainAfterMs: number;
  /** A command and its arguments; null: nobody is told. */
  readonly up: readonly string[] | null;
  readonly down: readonly string[] | null;
  /** Of either command. */
  readonly timeoutMs: number;
}

/** How many of some backends: so many, or so large a share of them. */
export type Minimum = { readonly count: number } | { readonly percent: number };

export interface PoolConfig {
  /** The pool's name; an inline pool is named after its service. */
  readonly name: string;
  readonly inline: boolean;
  readonly health: PoolHealth;
  readonly backends: readonly BackendConfig[];
  /** While fewer of the backends before a priority are up, it takes flows too. */
  readonly reserves: { readonly minimum: Minimum };
  /** The backend that takes flows when no other may, and has no part in anything else; null: there is none. */
  readonly sorry: string | null;
  /** With less of the local zone up, in percent of its weight, other zones take the rest; null: zones do not matter. */
  readonly spillBelow: number | null;
  readonly quorum: PoolQuorum | null;
}

export interface ServiceProxyConfig {
  readonly connectTimeoutMs: number;
  /** Further ring choices after the first connect attempt fails. */
  readonly connectRetries: number;
  /** A TCP connection without a byte in either direction for so long is closed. 0: never. */
  readonly idleTimeoutMs: number;
  /** A UDP session without a datagram for so long is closed. */
  readonly udpIdleTimeoutMs: number;
  /** TCP connections open at once. */
  readonly connectionsMax: number;
  /** UDP sessions open at once. */
  readonly sessionsMax: number;
  readonly proxyProtocol: "none" | "v1" | "v2";
}

/** How `gue` wraps packets (draft-ietf-intarea-gue-09). */
export interface Gue {
  /** Outer UDP destination port. */
  readonly port: number;
  /** 0: with a GUE header; 1: IP right behind UDP. */
  readonly variant: 0 | 1;
}

/** `bytes` of a file are null until somebody has read it. */
export type QuicKey =
  | { readonly from: "inline"; readonly bytes: Uint8Array }
  | { readonly from: "file"; readonly path: string; readonly bytes: Uint8Array | null };

/** One way in which servers encode their ID in connection IDs. */
export interface ServiceQuicConfig {
  readonly id: number;
  readonly serverIdBytes: number;
  readonly nonceBytes: number;
  readonly lengthEncoded: boolean;
  readonly key: QuicKey | null;
}

/** A named part of a service's traffic. */
export interface Subset {
  readonly name: string;
  /** Name of the pool. */
  readonly pool: string;
  /** Of a percent, 0…10,000; those of a service add up to 10,000. */
  readonly hundredths: number;
}

/** Clients that a service has a pool of its own for. */
export interface Region {
  readonly name: string;
  /** ISO 3166-1 alpha-2. */
  readonly countries: readonly string[];
  /** AF, AN, AS, EU, NA, OC, SA. */
  readonly continents: readonly string[];
  /** Whatever a database says of them. */
  readonly networks: readonly Prefix[];
  /** Name of the pool. */
  readonly pool: string;
}

export interface ServiceGeo {
  /** Path of a database; null: regions are networks alone. */
  readonly database: string | null;
  /** The first that an address matches has it; of networks the longest prefix. */
  readonly regions: readonly Region[];
  /** Null until somebody has read the database. */
  readonly prefixes: RegionPrefixes | null;
}

export interface ServiceConfig extends ServiceAddress {
  /** "web", or for the clients of a region "web@eu". */
  readonly name: string;
  readonly protocol: Protocol;
  readonly forwarding: Forwarding;
  readonly gue: Gue;
  readonly algorithm: Algorithm;
  /** bounded-load: how much of a fair share a backend may have, in percent; above 100. */
  readonly loadFactorPercent: number;
  readonly hash: HashInput;
  /** Bits of the client address that `source-ip` hashes. */
  readonly sourcePrefix: { readonly ipv4: number; readonly ipv6: number };
  /** A prime, 7…2,097,143. */
  readonly ringSize: number;
  readonly tracking: Tracking;
  /** A tracked flow without a packet for so long is forgotten. */
  readonly flowIdleMs: number;
  /** Flows that send a packet within so long after a change keep their backend; of UDP at least flowIdleMs. */
  readonly changeWindowMs: number;
  /** Whether packets of slots in change name the other backends that may have their flow. */
  readonly secondChance: boolean;
  readonly affinityGroup: string | null;
  /** New flows of a client go where it has been until it has sent nothing for so long; null: at once. */
  readonly affinityTimeoutMs: number | null;
  /** Largest TCP segment that SYNs may ask for; null: what they ask for. */
  readonly mssMax: number | null;
  /** How packets say by their QUIC connection ID where they go; null: they do not. */
  readonly quicLb: { readonly configs: readonly ServiceQuicConfig[] } | null;
  readonly failOpen: boolean;
  /** With a smaller share of the backends up, in percent, all get flows; 0: never. */
  readonly panicBelow: number;
  readonly vip: { readonly assign: VipAssign };
  /** Name of the pool; null: the service is split. */
  readonly pool: string | null;
  /** Parts of the traffic, each with its own pool; null: all of it is the pool's. */
  readonly split: readonly Subset[] | null;
  /** Regions whose clients go to other pools; each is a service beside this one. null: there are none. */
  readonly geo: ServiceGeo | null;
  /** Of such a service: whose clients it has; null: the service stands in the file itself. */
  readonly region: { readonly service: string; readonly name: string } | null;
  /** Client networks: deny wins over allow by the longer prefix; an empty allow list admits everybody. */
  readonly policy: { readonly allow: readonly Prefix[]; readonly deny: readonly Prefix[] };
  readonly proxy: ServiceProxyConfig;
}

export interface Limits {
  readonly services: number;
  readonly backends: number;
  readonly flows: number;
  readonly fragments: number;
  /** Translated ones. */
  readonly natFlows: number;
  /** Clients that are remembered. */
  readonly affinities: number;
  /** In a second, of each CPU; 0: none are sent. */
  readonly icmpErrors: number;
}

export interface Config {
  readonly version: 1;
  readonly instance: string;
  /** Where the instance is; null: nobody says. */
  readonly zone: string | null;
  readonly dataplane: {
    readonly mode: DataplaneMode;
    readonly interfaces: readonly string[];
    /** Link addresses that frames for this host have besides its interfaces' own. */
    readonly macs: readonly string[];
    readonly xdp: XdpMode;
    readonly hashSeed: HashSeed;
    readonly proxy: {
      readonly bind: "vip" | "loopback" | "any"; readonly portOffset: number;
      /** For connections of a process that another one has taken over from. */
      readonly drainTimeoutMs: number;
    };
    readonly orphan: { readonly afterMs: number; readonly action: OrphanAction };
    /** Of health probes that travel as clients' packets do; null: made from the instance's name. */
    readonly probes: { readonly mark: number | null; readonly table: number | null };
    /**
     * Outer sources of tunnels per family: within a prefix each flow has its own; null: the
     * balancer's own address towards the backend.
     */
    readonly tunnelSource: { readonly ipv4: Prefix | null; readonly ipv6: Prefix | null };
    /** A path MTU that a router told of a tunnel counts for so long; 0: none is learned. */
    readonly pathMtuAgeMs: number;
    readonly nat: NatConfig;
  };
  readonly limits: Limits;
  readonly control: { readonly socket: string | null; readonly group: string | null };
  readonly observe: { readonly listen: { readonly address: Address; readonly port: number } | null };
  readonly log: { readonly level: "error" | "warn" | "info" | "debug" };
  readonly stateDirectory: string | null;
  readonly pools: readonly PoolConfig[];
  /** Those of the file, each followed by those of its regions. */
  readonly services: readonly ServiceConfig[];
}

/** By the plane that ignores them. */
export type IgnoredKeys = Readonly<Record<"xdp" | "proxy", readonly Problem[]>>;

/** One thing wrong (or worth a warning) in a config file. Lines and columns start at 1. */
export interface Problem {
  readonly severity: "error" | "warning";
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Dotted path, `services[0].port`. */
  readonly path: string;
  readonly reason: string;
  readonly hint: string | null;
}
