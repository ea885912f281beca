// What a process of an instance and the one that takes over from it say to each other. The two are of
// different versions as a rule, so a message may have fields that the reader does not know. Types and their
// checks only: must never hold a socket.
//
//   successor               predecessor
//   hello ───────────────▶  the same instance? then its control socket takes no changes any more
//         ◀─────────────── go, or no with the reason
//   want KEY (each) ─────▶
//         ◀─────────────── socket KEY, with the socket itself
//         ◀─────────────── session (each UDP session of KEY), with its socket
//   datagram ────────────▶  of a client that has no session over there
//   control ─────────────▶  closes its control socket and its metrics when all sessions are sent
//         ◀─────────────── yours
//   serving ─────────────▶  all that I serve? then the lock is the other's, and I listen no more
//         ◀─────────────── left, or no with the reason
//         ◀─────────────── datagram, of any client: read before its socket was closed here
//         ◀─────────────── held (whenever it changes): connections that the predecessor has still
//   endFlows ────────────▶  resets those with these backends
//   ending ──────────────▶  has what it has still end soon
//
// Until `left` either may die: the predecessor goes on when the successor does, and the successor starts as
// after a crash when the predecessor does, with the sessions that it has by then.

import { z } from "zod";

/**
 * Of these messages. 2: with UDP sessions, which end in 1. The successor tells the oldest and the newest that
 * it speaks, the predecessor takes the newest that both do, and declines where there is none.
 */
export const HAND_OVER_FORMAT = 2;
export const OLDEST_FORMAT = 1;
const FORMAT_OF_SESSIONS = 2;

export function hasSessions(format: number): boolean {
  return format >= FORMAT_OF_SESSIONS;
}

const text = z.string();
const counts = z.record(text, z.number()).readonly();
/** `FlowsElsewhere`. */
const held = z.object({ services: counts, backends: counts });
const ids = z.array(z.number()).readonly().default([]);

/** Read from the socket KEY; its bytes in base64. */
const datagram = z.object({ type: z.literal("datagram"), key: text, address: text, port: z.number(), bytes: text });

export const fromSuccessorSchema = z.discriminatedUnion("type", [
  /** `format`: the oldest; the only one of a successor that tells no `newest`. */
  z.object({
    type: z.literal("hello"), format: z.number(), newest: z.number().optional(), version: text, instance: text,
    mode: z.enum(["auto", "xdp", "proxy"]),
  }),
  z.object({ type: z.literal("want"), key: text }),
  datagram,
  z.object({ type: z.literal("control") }),
  /** `error`: of its apply. `unserved`: services, and why. */
  z.object({ type: z.literal("serving"), error: text.nullable(), unserved: z.record(text, text) }),
  /** Why it will end now. */
  z.object({ type: z.literal("failed"), message: text }),
  /** After it has taken over: backends ("pool/backend") that are to have no flows. */
  z.object({ type: z.literal("endFlows"), backends: z.array(text).readonly() }),
  /** After it has taken over: it was told to end, and its predecessor's connections are to end in the same time. */
  z.object({ type: z.literal("ending"), drainMs: z.number() }),
]);

export const fromPredecessorSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("go"), format: z.number().default(OLDEST_FORMAT), reason: text, remedy: text.nullable() }),
  z.object({ type: z.literal("no"), message: text }),
  z.object({ type: z.literal("socket"), key: text }),
  z.object({
    type: z.literal("session"), id: z.number(), key: text, address: text, port: z.number(), isNamed: z.boolean(),
    backend: text, proxyProtocol: text, idleMs: z.number(),
  }),
  z.object({ type: z.literal("yours") }),
  z.object({
    type: z.literal("left"), busy: ids, ended: ids, leftBehind: z.number().default(0),
    held: held.default({ services: {}, backends: {} }),
  }),
  z.object({ type: z.literal("held"), held }),
  datagram,
]);

export type FromSuccessor = z.infer<typeof fromSuccessorSchema>;
export type FromPredecessor = z.infer<typeof fromPredecessorSchema>;
export type DatagramMessage = z.infer<typeof datagram>;
