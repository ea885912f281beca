// A probe by one HTTP/1.1 request, with or without TLS. Knows the request and Node's client; what an
// answer means is http_answer.ts's business.

import type { IncomingMessage } from "node:http";
import { request } from "node:http";
import type { Socket } from "node:net";
import { parseAddress } from "../../model/address.ts";
import type { HttpHealth } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { attempted, codeOf, failure, verdictOf } from "./attempt.ts";
import { judgeAnswer } from "./http_answer.ts";
import type { Aim, Doors } from "./socket.ts";
import { readSecret } from "./secret.ts";
import { authorityOf } from "./socket.ts";
import { openStream } from "./stream.ts";

export function probeHttp(doors: Doors, aim: Aim<HttpHealth>, attempt: Attempt): void {
  const { tls, host } = aim.health;
  const wish = tls === null ? null : { ...tls, host: nameIn(host), protocols: ["http/1.1"] };
  openStream(doors, aim, wish, attempt, (stream) => {
    ask(stream, aim, requestHeaders(doors, aim), attempt);
  });
}

function ask(
  stream: Socket, aim: Aim<HttpHealth>, headers: Readonly<Record<string, string>>, attempt: Attempt,
): void {
  const { health } = aim;
  attempt.stage = "waiting for the response";
  const sent = request({
    createConnection: () => stream, method: health.method, path: health.path,
    headers: { "host": hostHeader(aim), ...headers, "connection": "close" },
  });
  const { release } = attempt;
  attempt.release = () => {
    sent.on("error", () => { /* the attempt is over */ });
    release();
    sent.destroy();
  };
  const onResponse = (response: IncomingMessage): void => {
    const { statusCode, headersDistinct } = response;
    response.on("error", (error) => { attempt.end(verdictOf(error)); });
    const reader = judgeAnswer({ status: statusCode ?? 0, valuesOf: (name) => headersDistinct[name] ?? [] }, health, attempt);
    response.on("data", (bytes: Buffer) => { attempted(attempt, () => { reader.hear(bytes); }); });
    response.once("end", () => { attempted(attempt, () => { reader.end(response.complete); }); });
    response.once("close", () => { reader.end(false); });
  };
  sent.once("response", onResponse);
  sent.once("upgrade", onResponse); // a 101 nobody asked for is a status like any other
  sent.once("error", (error) => { attempt.end(verdictOfRequest(error)); });
  sent.end();
}

/** Those of every version, in small letters; the configuration's take the place of ours. */
export function requestHeaders(doors: Doors, { health }: Aim<HttpHealth>): Readonly<Record<string, string>> {
  const own = { "user-agent": "pointsman-probe", "accept": "*/*", "accept-encoding": "identity" };
  const wished = health.headers.map(({ name, value }) => [name.toLowerCase(), readSecret(doors, value)] as const);
  return { ...own, ...Object.fromEntries(wished) };
}

export function hostHeader(aim: Aim<HttpHealth>): string {
  return aim.health.host ?? authorityOf(aim, aim.health.tls === null ? 80 : 443);
}

/** What TLS may be asked for: no address, and no port behind the name. */
export function nameIn(host: string | null): string | null {
  const name = host?.replace(/:\d+$/, "") ?? null;
  return name === null || parseAddress(name.replace(/^\[|\]$/g, "")) !== null ? null : name;
}

function verdictOfRequest(error: Error): Verdict {
  // Node's words for an end before the headers'.
  if (error.message === "socket hang up") return failure("connection closed without a response");
  return codeOf(error).startsWith("HPE_") ? failure(`not an HTTP response: ${error.message}`) : verdictOf(error);
}
