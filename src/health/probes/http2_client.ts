// A request by HTTP/2 over a stream that is open, for one attempt. The client is ours, since Node's has a session in
// C++ that a server can make abort the whole process. Knows the stream's events; must never know what is asked.

import type { Socket } from "node:net";
import type { Attempt } from "./attempt.ts";
import { attempted, failure } from "./attempt.ts";
import { encodeRequest, Http2Exchange, type Http2Hearer, type Http2Request } from "./http2_exchange.ts";

export interface Http2Listener extends Http2Hearer {
  /** The connection has ended before the response has. */
  readonly cut: () => void;
}

/** The listener, or what goes wrong, ends the attempt; that ends the connection. */
export function exchange(stream: Socket, request: Http2Request, attempt: Attempt, listener: Http2Listener): void {
  if ("alpnProtocol" in stream && stream.alpnProtocol !== "h2") {
    attempt.end(failure("the server offers no HTTP/2 (ALPN h2)"));
    return;
  }
  attempt.stage = "waiting for the response";
  const isHead = request.fields.some(([name, value]) => name === ":method" && value === "HEAD");
  const machine = new Http2Exchange(listener, isHead);
  const say = (): void => {
    const bytes = machine.takeUnsaid();
    if (bytes.length > 0 && stream.writable) stream.write(bytes);
  };
  const { release } = attempt;
  attempt.release = () => {
    machine.leave();
    say();
    release();
  };
  stream.on("data", (piece: Buffer) => {
    attempted(attempt, () => {
      machine.hear(piece);
      say();
    });
  });
  const onEnd = (): void => {
    attempted(attempt, () => {
      machine.hearEnd();
      listener.cut();
    });
  };
  stream.once("end", onEnd);
  stream.once("close", onEnd);
  stream.write(encodeRequest(request));
}
