// How backends are probed, as the config says it: one type for each kind of probe, with what all kinds
// share. Must never know what a probe does, which is src/health's business.

import type { Address } from "./address.ts";
import type { FeedbackRules } from "./feedback.ts";

/** Of a probe over TLS. */
export interface ProbeTls {
  /** For SNI and the certificate check. */
  readonly serverName: string | null;
  readonly verify: boolean;
  /** File of the certificates that are trusted; null: Node's own. */
  readonly ca: string | null;
  /** A certificate that is valid for fewer days is warned of, or fails the probe; null: neither. */
  readonly warnDays: number | null;
  readonly failDays: number | null;
}

/** A value that the config holds, or that stays in its file. */
export type ProbeSecret =
  | { readonly from: "inline"; readonly text: string }
  | { readonly from: "file"; readonly path: string };

export interface HealthTiming {
  /** Start to start, milliseconds. */
  readonly intervalMs: number;
  /** The same while there is doubt: failures in a row that are not enough, or successes. Absent: intervalMs. */
  readonly fastIntervalMs?: number;
  /** The same of a backend that is down. Absent: intervalMs. */
  readonly downIntervalMs?: number;
  /** A backend that is back, or new, has all of its share after so long. Absent: at once. */
  readonly slowStartMs?: number;
  /** At most intervalMs. */
  readonly timeoutMs: number;
  /** Consecutive successes that turn a backend up. */
  readonly rise: number;
  /** Consecutive failures that turn a backend down. */
  readonly fall: number;
  /** Share of the interval (0…0.5) by which a probe may be advanced, never delayed. */
  readonly jitter: number;
  /** Port to probe, or null for the backend's effective port. */
  readonly port: number | null;
  /** direct: to the backend's own address. tunnel: to the virtual address, the way clients' packets go. */
  readonly via: "direct" | "tunnel";
  /** Address of this host that probes of its family come from; null: the kernel's choice. */
  readonly source: Address | null;
  /** Absent: nobody speaks for the backend. */
  readonly agent?: ProbeAgent;
  /** Absent: flows say nothing of the backend. */
  readonly outlier?: OutlierRules;
  /** Absent: it may change as often as it likes. */
  readonly damping?: DampingRules;
  /** Absent: how long it takes to answer does not matter. */
  readonly feedback?: FeedbackRules;
}

/** When a backend's flows have it ejected, and for how long. */
export interface OutlierRules {
  /** Failures in a row; null: no number of them is too many. */
  readonly consecutive: number | null;
  /** Of the flows of an interval, in percent: more is too much; null: no share is. */
  readonly failuresAbove: number | null;
  readonly intervalMs: number;
  /** With fewer flows in an interval a share says nothing. */
  readonly flowsMin: number;
  /** The first ejection, and by how much each further one is longer, at most ejectionMaxMs. */
  readonly ejectionMs: number;
  readonly ejectionMaxMs: number;
  /** Of the backends of a pool, in percent; one at least. */
  readonly ejectedMax: number;
  /** Whether flows that nothing came back of have failed, where nothing need come. */
  readonly silence: boolean;
}

/** The most that `changesMax` can be: one more are kept of each backend. */
export const CHANGES_MAX = 100;

/** When a backend has changed between down and not down too often, and how quiet it has to be then. */
export interface DampingRules {
  /** More of them within that time are too many. */
  readonly changesMax: number;
  readonly withinMs: number;
  /** Without a change. */
  readonly holdMs: number;
}

/** An agent beside the backend, which says how much the backend wants to do. */
export interface ProbeAgent {
  readonly port: number;
  /** What is sent to it, or null. */
  readonly send: ProbePayload | null;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly jitter: number;
  readonly source: Address | null;
}

export interface NoHealth {
  readonly type: "none";
  readonly agent?: ProbeAgent;
  readonly outlier?: OutlierRules;
  readonly damping?: DampingRules;
}

export interface TcpHealth extends HealthTiming {
  readonly type: "tcp";
}

export interface TlsHealth extends HealthTiming {
  readonly type: "tls";
  readonly tls: ProbeTls;
}

/** A place in a JSON body, such as "checks.0.status", and what has to be there. */
export interface JsonField {
  readonly path: string;
  readonly value: string | number | boolean | null;
}

export interface HttpHealth extends HealthTiming {
  readonly type: "http";
  readonly version: 1 | 2;
  readonly method: "GET" | "HEAD";
  readonly path: string;
  readonly host: string | null;
  readonly headers: readonly { readonly name: string; readonly value: ProbeSecret }[];
  /** Accepted status codes, inclusive ranges. */
  readonly statuses: readonly { readonly from: number; readonly to: number }[];
  /** Text the body has to contain, or null. */
  readonly body: string | null;
  /** An expression that it has to match somewhere (expression.ts), or null. */
  readonly bodyMatches: string | null;
  /** All of them; none: the body need not be JSON. */
  readonly json: readonly JsonField[];
  /** Of a 503 that asks for a drain: a header, in small letters, and what it has to say (null: anything). */
  readonly drainHeader: { readonly name: string; readonly value: string | null } | null;
  readonly tls: ProbeTls | null;
}

export interface GrpcHealth extends HealthTiming {
  readonly type: "grpc";
  /** Name of the service that is asked about; "": of the server as a whole. */
  readonly service: string;
  /** The authority of the request; null: the address and port. */
  readonly host: string | null;
  readonly tls: ProbeTls | null;
}

/** What is sent, or has to come; as the config says it, in hexadecimal digits or as a text. */
export interface ProbePayload {
  readonly bytes: Uint8Array;
  readonly isHex: boolean;
}

export interface UdpHealth extends HealthTiming {
  readonly type: "udp";
  readonly send: ProbePayload;
  /** What the answer has to contain; null: any answer will do. */
  readonly expect: ProbePayload | null;
}

export const DNS_RECORD_TYPES = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] as const;
export const DNS_RCODES = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"] as const;

export interface DnsHealth extends HealthTiming {
  readonly type: "dns";
  readonly name: string;
  readonly recordType: typeof DNS_RECORD_TYPES[number];
  readonly rcode: typeof DNS_RCODES[number];
  /** One of the answers, as a zone file has it; null: any or none. */
  readonly answer: string | null;
  readonly transport: "udp" | "tcp";
}

export interface RedisHealth extends HealthTiming {
  readonly type: "redis";
  /** Null with a password: the default user's. */
  readonly username: string | null;
  readonly password: ProbeSecret | null;
  readonly role: "any" | "master" | "replica";
  readonly tls: ProbeTls | null;
}

export interface PostgresHealth extends HealthTiming {
  readonly type: "postgres";
  readonly user: string;
  /** Null: the one that is named like the user. */
  readonly database: string | null;
  readonly tls: ProbeTls | null;
}

export interface MysqlHealth extends HealthTiming {
  readonly type: "mysql";
  /** Logs in without a password; null: the greeting is enough. */
  readonly user: string | null;
}

export interface SmtpHealth extends HealthTiming {
  readonly type: "smtp";
  /** Who we say that we are. */
  readonly helloName: string;
  readonly tls: ProbeTls | null;
}

export interface IcmpHealth extends HealthTiming {
  readonly type: "icmp";
}

export interface ExecHealth extends HealthTiming {
  readonly type: "exec";
  /** Absolute path. */
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: readonly { readonly name: string; readonly value: ProbeSecret }[];
}

export type ActiveHealth =
  | TcpHealth | TlsHealth | HttpHealth | GrpcHealth | UdpHealth | DnsHealth
  | RedisHealth | PostgresHealth | MysqlHealth | SmtpHealth | IcmpHealth | ExecHealth;
/** What a pool has. */
export type PoolHealth = NoHealth | ActiveHealth;

/** One question to the agent of a backend; no pool has it for itself. */
export interface AgentHealth extends HealthTiming {
  readonly type: "agent";
  readonly send: ProbePayload | null;
}

/** What a probe can be of. */
export type ProbedHealth = ActiveHealth | AgentHealth;
export type Health = NoHealth | ProbedHealth;

/** Kinds that can do without: a backend for which no port is named is probed all the same. */
export function needsPort(type: unknown): boolean {
  return type !== "icmp" && type !== "exec";
}
