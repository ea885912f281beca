// The part of the schema that says how backends are probed: what all kinds of probes share, and the keys
// of each. Knows keys, bounds and descriptions; must never know how a probe is made.

import * as z from "zod";
import * as formats from "./formats.ts";
import { duration, integer, port, text } from "./schema_parts.ts";
import { viaSchema } from "./schema_probes.ts";

/** Keys of every kind of probe. */
const timing = {
  interval: duration(
    "From the start of one probe to the start of the next.", "10ms", "1h",
  ).default("2s"),
  timeout: duration(
    "A probe without an answer for so long has failed; at most the interval. Default: 1s, or the "
    + "interval where that is shorter.", "1ms", "1h").optional(),
  rise: integer("Successes in a row that turn a backend up.", 1, 1000).default(2),
  fall: integer("Failures in a row that turn a backend down.", 1, 1000).default(3),
  jitter: z.number().min(0).max(0.5).default(0.1).meta({
    title: "a share",
    description: "Share of the interval by which a probe may come early, so that probes spread "
      + "out; never late.",
  }),
  port: port("Port to probe; null: the backend's own.").nullable().default(null),
  via: viaSchema,
};

export const timingSchema = z.object(timing);

const tlsSchema = z.strictObject({
  serverName: text(formats.checkPattern(
    "^[!-~]{1,253}$", "a server name", "such as www.example.org",
  ), {
    title: "a server name", description: "Name for SNI and the certificate check; null: `host`, "
      + "else none.",
  }).nullable().default(null),
  verify: z.boolean().default(true).meta({
    description: "Whether a certificate that does not verify fails the probe.",
  }),
});

const status = z.union([
  z.int().min(100).max(599),
  text(
    formats.checkStatuses, { title: "a range of status codes", pattern: formats.STATUSES_PATTERN },
  ),
]).meta({ title: "a status code or a range such as 200-399", examples: ["200-399"] });

const httpHealth = z.strictObject({
  type: z.literal("http").meta({ description: "One HTTP/1.1 request per probe." }),
  method: z.enum(["GET", "HEAD"]).default("GET").meta({ description: "Request method." }),
  path: text(formats.checkPattern(
    "^/[!-~]{0,1023}$", "a request path", "start it with a slash; no spaces",
  ), {
    title: "a request path", description: "Request target.", pattern: "^/[!-~]{0,1023}$",
    examples: ["/health"],
  }).default("/"),
  host: text(formats.checkPattern("^[!-~]{1,255}$", "a host name", "such as www.example.org"), {
    title: "a host name", description: "Host header; null: the backend's address and port.",
  }).nullable().default(null),
  statuses: z.array(status).min(1).default(["200-399"]).meta({
    title: "a list of status codes", description: "Status codes that count as success.",
  }),
  body: z.string().min(1).max(4096).nullable().default(null).meta({
    title: "a text", description: "Text that the start of the body has to contain; null: any body.",
  }),
  drainHeader: text(formats.checkHeader, {
    title: "a header", examples: ["X-Drain: 1"],
    description: "An answer of 503 with this header means that the backend drains: it keeps its flows and "
      + "gets no new ones. A name alone: whatever the header says; null: a 503 is judged by `statuses`.",
  }).nullable().default(null),
  tls: tlsSchema.nullable().default(null).meta(
    { description: "Probe over TLS; null: in the clear." },
  ),
  ...timing,
});

const tcpHealth = z.strictObject({
  type: z.literal("tcp").meta(
    { description: "A connection that is established counts as success." },
  ),
  ...timing,
});

const noHealth = z.strictObject({
  type: z.literal("none").meta({ description: "No probes: every backend is taken as up." }),
});

export const healthSchema = z.discriminatedUnion("type", [noHealth, tcpHealth, httpHealth]).meta({
  id: "Health", title: "a health check",
  description: "How backends are probed. Default: `{ type: tcp }`.",
});

export type RawHealth = z.output<typeof healthSchema>;
