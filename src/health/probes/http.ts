// A probe by one HTTP/1.1 request, with or without TLS. Knows the request and Node's client; what an
// answer means is http_answer.ts's business.

import type { IncomingMessage } from "node:http";
import { request } from "node:http";
import type { HttpHealth } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { codeOf, failure, verdictOf } from "./attempt.ts";
import { judgeAnswer } from "./http_answer.ts";
import type { Aim, Doors } from "./socket.ts";
import { authorityOf, discard, openSocket, openTls } from "./socket.ts";

export function probeHttp(doors: Doors, aim: Aim<HttpHealth>, attempt: Attempt): void {
  const { health } = aim;
  const { tls } = health;
  const socket = tls === null ? openSocket(doors, aim) : openTls(doors, aim, tls, ["http/1.1"]);
  attempt.release = () => { discard(socket, aim); };
  if (tls !== null) socket.once("connect", () => { attempt.stage = "shaking hands"; });
  socket.once(tls === null ? "connect" : "secureConnect", () => {
    attempt.stage = "waiting for the response";
  });
  const sent = request({
    createConnection: () => socket, method: health.method, path: health.path,
    headers: {
      "Host": hostHeader(aim), "User-Agent": "pointsman-probe", "Accept": "*/*",
      "Accept-Encoding": "identity", "Connection": "close",
    },
  });
  attempt.release = () => {
    sent.on("error", () => { /* the attempt is over */ });
    discard(socket, aim);
    sent.destroy();
  };
  const onResponse = (response: IncomingMessage): void => {
    const { statusCode, headersDistinct } = response;
    const valuesOf = (name: string): readonly string[] => headersDistinct[name] ?? [];
    judgeAnswer({ status: statusCode ?? 0, valuesOf, body: response }, health, attempt);
  };
  sent.once("response", onResponse);
  sent.once("upgrade", onResponse); // a 101 nobody asked for is a status like any other
  sent.once("error", (error) => { attempt.end(verdictOfRequest(error)); });
  sent.end();
}

export function hostHeader(aim: Aim<HttpHealth>): string {
  return aim.health.host ?? authorityOf(aim, aim.health.tls === null ? 80 : 443);
}

function verdictOfRequest(error: Error): Verdict {
  // Node's words for an end before the headers'.
  if (error.message === "socket hang up") return failure("connection closed without a response");
  return codeOf(error).startsWith("HPE_") ? failure(`not an HTTP response: ${error.message}`) : verdictOf(error);
}
