// A probe by one HTTP/2 request: over TLS where ALPN agrees on h2, or in the clear with prior knowledge. Knows
// the request; what an answer means is http_answer.ts's business.

import type { HttpHealth } from "../../model/health_check.ts";
import type { Attempt } from "./attempt.ts";
import { failure } from "./attempt.ts";
import { hostHeader, nameIn, requestFields } from "./http.ts";
import { judgeAnswer, type BodyReader } from "./http_answer.ts";
import { exchange } from "./http2_client.ts";
import type { Aim, Doors } from "./socket.ts";
import { openStream } from "./stream.ts";

export function probeHttp2(doors: Doors, aim: Aim<HttpHealth>, attempt: Attempt): void {
  const { health } = aim;
  const wish = health.tls === null ? null : { ...health.tls, host: nameIn(health.host), protocols: ["h2"] };
  openStream(doors, aim, wish, attempt, (stream) => {
    const fields = [
      [":method", health.method], [":scheme", health.tls === null ? "http" : "https"], [":authority", hostHeader(aim)],
      [":path", health.path], ...requestFields(doors, aim),
    ] as const;
    let reader: BodyReader | null = null;
    exchange(stream, { fields, body: null }, attempt, {
      response: (status, answered) => { reader = judgeAnswer({ status, fields: answered }, health, attempt); },
      data: (bytes) => reader?.hear(bytes),
      end: () => reader?.end(true),
      cut: () => {
        if (reader === null) attempt.end(failure("connection closed without a response"));
        else reader.end(false);
      },
    });
  });
}
