// How backends are probed, as the config says it: one type for each kind of probe, with what all kinds
// share. Pure types; what a probe does is src/health's business.

/** Of a probe over TLS. */
export interface ProbeTls {
  /** For SNI and the certificate check. */
  readonly serverName: string | null;
  readonly verify: boolean;
}

export interface HealthTiming {
  /** Start to start, milliseconds. */
  readonly intervalMs: number;
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
}

export interface NoHealth {
  readonly type: "none";
}

export interface TcpHealth extends HealthTiming {
  readonly type: "tcp";
}

export interface HttpHealth extends HealthTiming {
  readonly type: "http";
  readonly method: "GET" | "HEAD";
  readonly path: string;
  readonly host: string | null;
  /** Accepted status codes, inclusive ranges. */
  readonly statuses: readonly { readonly from: number; readonly to: number }[];
  /** Text the body has to contain, or null. */
  readonly body: string | null;
  /** Of a 503 that asks for a drain: a header, in small letters, and what it has to say (null: anything). */
  readonly drainHeader: { readonly name: string; readonly value: string | null } | null;
  readonly tls: ProbeTls | null;
}

export type ActiveHealth = TcpHealth | HttpHealth;
export type Health = NoHealth | ActiveHealth;
