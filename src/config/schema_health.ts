// The part of the schema that says how backends are probed: what all kinds of probes share, and the keys
// of each. Knows keys, bounds and descriptions; must never know how a probe is made.

import * as z from "zod";
import { DNS_RCODES, DNS_RECORD_TYPES } from "../model/health_check.ts";
import * as formats from "./formats.ts";
import {
  checkDomainName, checkExpression, checkHeader, checkHeaderValue, checkPayload, checkSecretFile, checkStatuses, checkVariable,
  PAYLOAD_BYTES_MAX, SECRET_FILE_PATTERN, STATUSES_PATTERN,
} from "./formats_health.ts";
import { duration, hostAddress, integer, path, port, text } from "./schema_parts.ts";
import { feedbackSchema } from "./schema_feedback.ts";
import { dampingSchema, outlierSchema } from "./schema_passive.ts";
import { viaSchema } from "./schema_probes.ts";

const intervalKey = duration("From the start of one probe to the start of the next.", "10ms", "1h").default("2s");
const timeoutKey = duration(
  "A probe without an answer for so long has failed; at most the interval. Default: 1s, or the interval where that is "
    + "shorter.", "1ms", "1h").optional();
const jitterKey = z.number().min(0).max(0.5).default(0.1).meta({
  title: "a share",
  description: "Share of the interval by which a probe may come early, so that probes spread out; never late.",
});

const agentSchema = z.strictObject({
  port: port("Where the agent listens for TCP, at the backend's address."),
  send: payload("What it is sent; null: nothing.").nullable().default(null),
  interval: intervalKey,
  timeout: timeoutKey,
  jitter: jitterKey,
}).meta({ id: "Agent", title: "an agent" }).nullable().default(null).meta({
  description: "An agent beside the backend that says how much the backend wants to do, by HAProxy's protocol: up, down, "
    + "drain, maint, ready, 75% ([docs/health.md](health.md#agents)). null: there is none.",
});

/** Keys of every kind of probe. */
const timing = {
  interval: intervalKey,
  fastInterval: duration("The same while there is doubt: after a failure of a backend that is up, or a success of one that is "
    + "down; null: `interval`.", "10ms", "1h").nullable().default(null),
  downInterval: duration("The same of a backend that is down; null: `interval`.", "10ms", "24h").nullable().default(null),
  slowStart: duration("A backend that is back, or new in the config, gets its share of new flows little by little for so long; "
    + "0s: at once.", "0s", "1h").default("0s"),
  timeout: timeoutKey,
  rise: integer("Successes in a row that turn a backend up.", 1, 1000).default(2),
  fall: integer("Failures in a row that turn a backend down.", 1, 1000).default(3),
  jitter: jitterKey,
  port: port("Port to probe; null: the backend's own.").nullable().default(null),
  via: viaSchema,
  source: hostAddress("Address of this host that probes come from, of backends of its family; null: the kernel's "
    + "choice.").nullable().default(null),
  agent: agentSchema,
  outlier: outlierSchema,
  damping: dampingSchema,
  feedback: feedbackSchema,
};

export const timingSchema = z.object(timing);

const DAYS_MAX = 3650;

const tlsKeys = {
  serverName: text(formats.checkPattern(
    "^[!-~]{1,253}$", "a server name", "such as www.example.org",
  ), {
    title: "a server name", description: "Name for SNI and the certificate check; null: the host that "
      + "the probe asks for, if it names one.",
  }).nullable().default(null),
  verify: z.boolean().default(true).meta({
    description: "Whether a certificate that does not verify fails the probe.",
  }),
  ca: path("File of the certificates (PEM) that issuers have to lead to; null: those that Node.js "
    + "trusts. Read at each probe.").nullable().default(null),
  warnDays: integer("A certificate that is valid for fewer days is warned of in the log, once a day; null: "
    + "never.", 0, DAYS_MAX).nullable().default(14),
  failDays: integer("One that is valid for fewer days fails the probe, also without `verify`; null: that is "
    + "for `verify` alone to say.", 0, DAYS_MAX).nullable().default(null),
};

/** Of probes that may go over TLS. */
const tlsSchema = z.strictObject(tlsKeys).meta({ id: "Certificate-check", title: "a certificate-check" }).nullable().default(null).meta(
  { description: "Probe over TLS; null: in the clear." },
);

const tlsHealth = z.strictObject({
  type: z.literal("tls").meta({
    description: "A TLS handshake that ends well counts as success, if the certificate does too.",
  }),
  ...tlsKeys,
  ...timing,
});

const status = z.union([
  z.int().min(100).max(599),
  text(
    checkStatuses, { title: "a range of status codes", pattern: STATUSES_PATTERN },
  ),
]).meta({ title: "a status code or a range such as 200-399", examples: ["200-399"] });

const httpHealth = z.strictObject({
  type: z.literal("http").meta({ description: "One HTTP request per probe." }),
  version: z.union([z.literal(1), z.literal(2)]).default(1).meta({
    title: "1 or 2", description: "1: HTTP/1.1. 2: HTTP/2, with TLS by ALPN, without it with prior knowledge (h2c).",
  }),
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
  headers: z.record(z.string(), text(checkHeaderValue, {
    title: "the value of a header", examples: ["Bearer 1234"],
  })).default({}).meta({
    title: "a mapping of headers", description: "Request headers by name, besides Host, Connection and those of "
      + "the body. A secret stays in a file: `file:/etc/pointsman/token`, read at each probe.",
  }),
  statuses: z.array(status).min(1).default(["200-399"]).meta({
    title: "a list of status codes", description: "Status codes that count as success.",
  }),
  body: z.string().min(1).max(4096).nullable().default(null).meta({
    title: "a text", description: "Text that the start of the body (64 KiB) has to contain; null: any body.",
  }),
  bodyMatches: text(checkExpression, {
    title: "a regular expression", examples: ["^(ok|ready)$"],
    description: "What the start of the body (16 KiB) has to match somewhere; null: anything. In the syntax of RE2: no "
      + "look-around and no references back, so the time it takes is in proportion to the body.",
  }).nullable().default(null),
  json: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]).meta({
    title: "a text, a number, true, false or null",
  })).default({}).meta({
    title: "a mapping of fields", description: "What fields of a JSON body have to be, by their place: "
      + "`{ checks.database: ok, nodes.0.up: true }`.",
  }),
  drainHeader: text(checkHeader, {
    title: "a header", examples: ["X-Drain: 1"],
    description: "An answer of 503 with this header means that the backend drains: it keeps its flows and "
      + "gets no new ones. A name alone: whatever the header says; null: a 503 is judged by `statuses`.",
  }).nullable().default(null),
  tls: tlsSchema,
  ...timing,
});

const hostKey = text(formats.checkPattern("^[!-~]{1,255}$", "a host name", "such as www.example.org"), {
  title: "a host name", description: "Host that is asked for; null: the backend's address and port.",
}).nullable().default(null);

const grpcHealth = z.strictObject({
  type: z.literal("grpc").meta({
    description: "One call of `grpc.health.v1.Health/Check`, over HTTP/2: with TLS by ALPN, without it with prior "
      + "knowledge. SERVING counts as success.",
  }),
  service: text(formats.checkPattern("^[!-~]{0,255}$", "the name of a gRPC service", "such as shop.v1.Cart"), {
    title: "the name of a gRPC service", description: "Service that is asked about; empty: the server as a whole.",
    examples: ["shop.v1.Cart"],
  }).default(""),
  host: hostKey,
  tls: tlsSchema,
  ...timing,
});

function payload(description: string): z.ZodString {
  return text(checkPayload, {
    title: "a text, or hex: and digits", description: `${description} A text, or \`hex:\` and digits, two for each byte; up to `
      + `${PAYLOAD_BYTES_MAX} bytes.`, examples: ["hex:0102ff"],
  });
}

const udpHealth = z.strictObject({
  type: z.literal("udp").meta({ description: "One datagram; an answer counts as success." }),
  send: payload("What is sent."),
  expect: payload("What the answer has to contain; null: any answer will do.").nullable().default(null),
  ...timing,
});

const dnsHealth = z.strictObject({
  type: z.literal("dns").meta({ description: "One question to a DNS server." }),
  name: text(checkDomainName, { title: "a domain name", description: "What is asked for.", examples: ["www.example.org"] }),
  recordType: z.enum(DNS_RECORD_TYPES).default("A").meta({ description: "Type of the records that are asked for." }),
  rcode: z.enum(DNS_RCODES).default("NOERROR").meta({ description: "Response code that counts as success." }),
  answer: z.string().min(1).max(255).nullable().default(null).meta({
    title: "a record's value", description: "What one of the records has to be, as a zone file has it; null: any, or none.",
  }),
  transport: z.enum(["udp", "tcp"]).default("udp").meta({
    description: "udp: and once more by TCP where the answer was cut short. tcp: by TCP alone.",
  }),
  ...timing,
});

function user(description: string): z.ZodString {
  return text(formats.checkPattern("^[!-~]{1,63}$", "the name of a user", "such as pointsman"), {
    title: "the name of a user", description,
  });
}

const redisHealth = z.strictObject({
  type: z.literal("redis").meta({ description: "PING to a Redis server; PONG counts as success." }),
  username: user("User of `password`; null: the default one.").nullable().default(null),
  password: text(checkSecretFile, {
    title: "a file", description: "File with the password, in one line, read at each probe; null: none is sent.",
    pattern: SECRET_FILE_PATTERN, examples: ["file:/etc/pointsman/redis.password"], writeOnly: true,
  }).nullable().default(null),
  role: z.enum(["any", "master", "replica"]).default("any").meta({
    description: "What the server has to be, by its answer to ROLE.",
  }),
  tls: tlsSchema,
  ...timing,
});

const postgresHealth = z.strictObject({
  type: z.literal("postgres").meta({
    description: "The first message to a PostgreSQL server. A request to authenticate counts as success, and so does a "
      + "refusal of who we are.",
  }),
  user: user("Who we say that we are.").default("pointsman"),
  database: user("Database that is asked for; null: the one that is named like the user.").nullable().default(null),
  tls: tlsSchema,
  ...timing,
});

const mysqlHealth = z.strictObject({
  type: z.literal("mysql").meta({ description: "The greeting of a MySQL or MariaDB server." }),
  user: user("User that has no password and may log in; null: the greeting counts as success, and the server counts a "
    + "connection that was given up.").nullable().default(null),
  ...timing,
});

const smtpHealth = z.strictObject({
  type: z.literal("smtp").meta({ description: "220, EHLO, 250, QUIT and 221 with an SMTP server count as success." }),
  helloName: text(checkDomainName, { title: "a domain name", description: "Who we say that we are, after EHLO." }).default("pointsman"),
  tls: tlsSchema,
  ...timing,
});

const icmpHealth = z.strictObject({
  type: z.literal("icmp").meta({ description: "One ICMP echo request, by the system's `ping`; an echo counts as success." }),
  ...timing,
});

const execHealth = z.strictObject({
  type: z.literal("exec").meta({
    description: "A command; exit status 0 counts as success. It is run only where the supervisor was begun with "
      + "`run --exec-probes`.",
  }),
  command: path("Absolute path of the program, which is run without a shell."),
  args: z.array(z.string().max(4096)).max(64).default([]).meta({
    title: "a list of texts", description: "Its arguments, as they are. Which backend is meant stands in its environment.",
  }),
  environment: z.record(z.string(), text(checkVariable, {
    title: "the value of a variable", examples: ["file:/etc/pointsman/token"],
  })).default({}).meta({
    title: "a mapping of variables", description: "Variables of its environment, besides PATH, LC_ALL and POINTSMAN_…. "
      + "A secret stays in a file: `file:/etc/pointsman/token`, read at each probe.",
  }),
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
  agent: agentSchema,
  outlier: outlierSchema,
  damping: dampingSchema,
  feedback: feedbackSchema,
});

export const healthSchema = z.discriminatedUnion("type", [
  noHealth, tcpHealth, tlsHealth, httpHealth, grpcHealth, udpHealth, dnsHealth,
  redisHealth, postgresHealth, mysqlHealth, smtpHealth, icmpHealth, execHealth,
]).meta({
  id: "Health", title: "a health check",
  description: "How backends are probed. Default: `{ type: tcp }`.",
});

export type RawAgent = z.output<typeof agentSchema>;
export type RawHealth = z.output<typeof healthSchema>;
