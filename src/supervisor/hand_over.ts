// What a process of an instance and the one that takes over from it say to each other. The two are of
// different versions as a rule, so a message may have fields that the reader does not know. Types and their
// checks only: must never hold a socket.
//
//   successor               predecessor
//   hello ───────────────▶  the same instance? then its control socket takes no changes any more
//         ◀─────────────── go, or no with the reason
//   want KEY (each) ─────▶
//         ◀─────────────── socket KEY, with the socket itself
//   control ─────────────▶  closes its control socket and its metrics
//         ◀─────────────── yours
//   serving ─────────────▶  all that I serve? then the lock is the other's, and I listen no more
//         ◀─────────────── left, or no with the reason
//
// Until `left` either may die: the predecessor goes on when the successor does, and the successor starts as
// after a crash when the predecessor does.

import { z } from "zod";

/** Of these messages. One that does not know the other's number declines. */
export const HAND_OVER_FORMAT = 1;

const text = z.string();

export const fromSuccessorSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("hello"), format: z.number(), version: text, instance: text, mode: z.enum(["auto", "xdp", "proxy"]) }),
  z.object({ type: z.literal("want"), key: text }),
  z.object({ type: z.literal("control") }),
  /** `error`: of its apply. `unserved`: services, and why. */
  z.object({ type: z.literal("serving"), error: text.nullable(), unserved: z.record(text, text) }),
  /** Why it will end now. */
  z.object({ type: z.literal("failed"), message: text }),
  /** After it has taken over: it was told to end, and its predecessor's connections are to end in the same time. */
  z.object({ type: z.literal("ending"), drainMs: z.number() }),
]);

export const fromPredecessorSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("go"), reason: text, remedy: text.nullable() }),
  z.object({ type: z.literal("no"), message: text }),
  z.object({ type: z.literal("socket"), key: text }),
  z.object({ type: z.literal("yours") }),
  z.object({ type: z.literal("left") }),
]);

export type FromSuccessor = z.infer<typeof fromSuccessorSchema>;
export type FromPredecessor = z.infer<typeof fromPredecessorSchema>;
