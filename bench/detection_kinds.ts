// The kinds of probes, and the ways to fail, of the detection benchmark: which kind sees which failure. Pure; its
// server and its client agree by it.

/** Kinds that meet a server of sockets. */
export const PORTS = {
  tcp: 8001, tls: 8002, http: 8003, http2: 8004, grpc: 8005, redis: 8006, postgres: 8007, mysql: 8008, smtp: 8009,
  agent: 8010, udp: 8011, dns: 8012,
} as const;
export type ProbedPort = keyof typeof PORTS;
export type SocketKind = Exclude<ProbedPort, "udp" | "dns">;
export type Kind = ProbedPort | "icmp" | "exec";

/** What a server does; "unreachable" is what befalls its host. */
export type Way = "well" | "refused" | "silent" | "garbage" | "closes" | "ill";
export const FAILURES = ["refused", "silent", "unreachable", "garbage", "closes", "ill"] as const;
export type Failure = typeof FAILURES[number];

const ALL: readonly Failure[] = FAILURES;
const DATAGRAM: readonly Failure[] = ["refused", "silent", "unreachable", "garbage", "ill"];

export const SEES: Readonly<Record<Kind, readonly Failure[]>> = {
  // A connection is all that it wants.
  tcp: ["refused", "unreachable"],
  // A handshake is.
  tls: ["refused", "silent", "unreachable", "garbage", "closes"],
  http: ALL, http2: ALL, grpc: ALL,
  udp: DATAGRAM, dns: DATAGRAM,
  redis: ALL, postgres: ALL, mysql: ALL, smtp: ALL,
  icmp: ["unreachable"],
  exec: ["silent", "ill"],
  // One that cannot be heard says nothing.
  agent: ["ill"],
};
export const KINDS = Object.keys(SEES) as Kind[];

/** Keys of the health check beside its type. */
export const KEYS: Readonly<Partial<Record<Kind, string>>> = {
  tls: "verify: false", http2: "version: 2", udp: "send: ping, expect: fine",
  dns: "name: www.example.org",
};
