// The shapes of questions about one table, and of their answers: explain and ring. Knows values only.

import { z } from "zod";

const text = z.string();
const counting = z.number().int().min(0);

export const explainRequestSchema = z.strictObject({
  /** "address:port" of the client. */
  client: text.min(1).max(60),
  /** Service name. */
  service: text.min(1).max(63),
  /** A QUIC connection ID in hexadecimal digits, as a packet would carry it. */
  connectionId: text.regex(/^([0-9a-fA-F]{2}){1,20}$/).optional(),
  /** "address:port" that the client asks for; null: the service's, or the first of each that it has. */
  to: text.min(1).max(60).nullable().default(null),
});

export const explanationSchema = z.strictObject({
  service: text,
  client: text,
  /** TX_FORWARDED, or why it would not be forwarded. */
  verdict: text,
  /** "pool/backend", or null with the reason in the last step. */
  backend: text.nullable(),
  /** Where the packet goes: "address:port". */
  destination: text.nullable(),
  forwarding: text,
  hash: counting,
  slot: counting,
  /** "pool/backend" that owns the slot in the configured ring; null when nobody does. */
  configuredOwner: text.nullable(),
  /** "pool/backend" of those that its packets name for the second chance, in the order in which they are asked. */
  alternates: z.array(text),
  steps: z.array(z.strictObject({ step: text, detail: text })),
});

export const ringRequestSchema = z.strictObject({
  service: text.min(1).max(63),
  /** Backends to take as unhealthy, and as gone from the config. */
  down: z.array(text).default([]),
  remove: z.array(text).default([]),
});

export const ringReportSchema = z.strictObject({
  service: text,
  size: counting,
  backends: z.array(z.strictObject({
    name: text, weight: counting, slots: counting, share: z.number(), ideal: z.number(),
  })),
  /** Backend name per slot, as in the pool; null when nobody has it. */
  slots: z.array(text.nullable()),
});

export type ExplainRequest = z.input<typeof explainRequestSchema>;
export type Explanation = z.infer<typeof explanationSchema>;
export type RingRequest = z.infer<typeof ringRequestSchema>;
export type RingReport = z.infer<typeof ringReportSchema>;
