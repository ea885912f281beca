// A probe by one HTTP/1.1 request, with or without TLS. Knows the request; how a response is read is
// http1_response.ts's business, and what it means http_answer.ts's.

import { parseAddress } from "../../model/address.ts";
import type { HttpHealth, ProbeSecret } from "../../model/health_check.ts";
import type { Attempt } from "./attempt.ts";
import { failure, OwnFault } from "./attempt.ts";
import { ResponseReader } from "./http1_response.ts";
import { judgeAnswer } from "./http_answer.ts";
import type { Field } from "./http_fields.ts";
import { readSecret } from "./secret.ts";
import type { Aim, Doors } from "./socket.ts";
import { authorityOf } from "./socket.ts";
import { converse, openStream } from "./stream.ts";

/** What a server may say: framed in chunks of one byte, as much of a body as is looked at takes six times its length. */
const HEARD_MAX_BYTES = 1024 * 1024;

export function probeHttp(doors: Doors, aim: Aim<HttpHealth>, attempt: Attempt): void {
  const { health } = aim;
  const { tls, host } = health;
  const wish = tls === null ? null : { ...tls, host: nameIn(host), protocols: ["http/1.1"] };
  openStream(doors, aim, wish, attempt, (stream) => {
    const request = encodeRequest(aim, requestFields(doors, aim));
    attempt.stage = "waiting for the response";
    const reader = new ResponseReader(health.method === "HEAD", (answer) => judgeAnswer(answer, health, attempt));
    converse(stream, attempt, (heard) => reader.hear(heard), {
      maxBytes: HEARD_MAX_BYTES,
      hearEnd: () => { if (!reader.end()) attempt.end(failure("connection closed without a response")); },
    });
    stream.write(request, "latin1");
  });
}

function encodeRequest(aim: Aim<HttpHealth>, fields: readonly Field[]): string {
  const { method, path } = aim.health;
  if (/[^!-~]/.test(path)) throw new Error("the path has characters that cannot be sent");
  let text = `${method} ${path} HTTP/1.1\r\nhost: ${hostHeader(aim)}\r\n`;
  for (const [name, value] of fields) text += `${name}: ${value}\r\n`;
  return `${text}connection: close\r\n\r\n`;
}

const OWN_FIELDS: readonly Field[] = [
  ["user-agent", "pointsman-probe"], ["accept", "*/*"], ["accept-encoding", "identity"],
];

/** Those of every version, in small letters; the configuration's take the place of ours. */
export function requestFields(doors: Doors, { health }: Aim<HttpHealth>): readonly Field[] {
  if (health.headers.length === 0) return OWN_FIELDS;
  const wished = health.headers.map(({ name, value }) => [name.toLowerCase(), readFieldValue(doors, name, value)] as const);
  return [...new Map([...OWN_FIELDS, ...wished])];
}

/** In a header are octets, which are written one for each character. */
function readFieldValue(doors: Doors, name: string, value: ProbeSecret): string {
  const text = readSecret(doors, value);
  if (/[^\u0000-\u00ff]/.test(text)) throw new OwnFault(`the value of the header ${name} has characters that cannot be sent`);
  return text;
}

export function hostHeader(aim: Aim<HttpHealth>): string {
  return aim.health.host ?? authorityOf(aim, aim.health.tls === null ? 80 : 443);
}

/** What TLS may be asked for: no address, and no port behind the name. */
export function nameIn(host: string | null): string | null {
  const name = host?.replace(/:\d+$/, "") ?? null;
  return name === null || parseAddress(name.replace(/^\[|\]$/g, "")) !== null ? null : name;
}
