// A probe by one HTTP/2 request: over TLS where ALPN agrees on h2, or in the clear with prior knowledge. Knows
// the session of Node's client; what an answer means is http_answer.ts's business.

import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";
import { connect, constants } from "node:http2";
import type { Socket } from "node:net";
import type { HttpHealth } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { codeOf, failure, verdictOf } from "./attempt.ts";
import { hostHeader, nameIn, requestHeaders } from "./http.ts";
import { judgeAnswer } from "./http_answer.ts";
import type { Aim, Doors } from "./socket.ts";
import { openStream } from "./stream.ts";

/** Memory that a server may fill before its session is ended, in MiB (Node's unit). */
const SESSION_MEMORY_MIB = 1;
const HEADERS_MAX = 128;

export function probeHttp2(doors: Doors, aim: Aim<HttpHealth>, attempt: Attempt): void {
  const { health } = aim;
  const wish = health.tls === null ? null : { ...health.tls, host: nameIn(health.host), protocols: ["h2"] };
  openStream(doors, aim, wish, attempt, (stream) => {
    const session = openSession(stream, attempt);
    if (session === null) return;
    const sent = session.request({
      ...requestHeaders(doors, aim), ":method": health.method, ":path": health.path,
      ":authority": hostHeader(aim), ":scheme": health.tls === null ? "http" : "https",
    }, { endStream: true });
    listen(sent, health, attempt);
  });
}

/** Null where the server does not speak HTTP/2, which has ended the attempt. */
export function openSession(stream: Socket, attempt: Attempt): ClientHttp2Session | null {
  if ("alpnProtocol" in stream && stream.alpnProtocol !== "h2") {
    attempt.end(failure("the server offers no HTTP/2 (ALPN h2)"));
    return null;
  }
  attempt.stage = "waiting for the response";
  const session = connect("http://backend", {
    createConnection: () => stream, maxSessionMemory: SESSION_MEMORY_MIB, maxHeaderListPairs: HEADERS_MAX,
    settings: { enablePush: false },
  });
  const { release } = attempt;
  attempt.release = () => {
    session.on("error", () => { /* the attempt is over */ });
    stream.on("error", () => { /* likewise */ });
    // A session that ends by itself closes its connection: a reset on top of that would lose Node the handle,
    // and so would one after our end of the session.
    if (session.destroyed) stream.destroy();
    else release();
    session.destroy();
  };
  session.once("error", (error: Error) => { attempt.end(verdictOfSession(error)); });
  session.once("goaway", (code) => {
    if (code !== constants.NGHTTP2_NO_ERROR) attempt.end(failure(`the server ended the session with HTTP/2 error ${code}`));
  });
  session.once("close", () => { attempt.end(failure("connection closed without a response")); });
  return session;
}

function listen(sent: ClientHttp2Stream, health: HttpHealth, attempt: Attempt): void {
  sent.once("response", (headers) => {
    judgeAnswer({
      status: headers[":status"] ?? 0, valuesOf: (name) => valuesOf(headers, name), body: sent,
      wasCut: () => sent.aborted || sent.rstCode !== constants.NGHTTP2_NO_ERROR,
    }, health, attempt);
  });
  sent.once("error", (error: Error) => { attempt.end(verdictOfSession(error)); });
  sent.once("close", () => { attempt.end(failure("connection closed without a response")); });
}

/** Lines of one name come joined, by a comma and a blank, which a value may have as well. */
function valuesOf(headers: IncomingHttpHeaders, name: string): readonly string[] {
  const joined = headers[name];
  if (joined === undefined) return [];
  return Array.isArray(joined) ? joined : [joined, ...joined.split(", ")];
}

export function verdictOfSession(error: Error): Verdict {
  const code = codeOf(error);
  if (code === "ERR_HTTP2_ERROR") return failure(`not an HTTP/2 server: ${error.message}`);
  return code.startsWith("ERR_HTTP2_") ? failure(error.message) : verdictOf(error);
}
