// A probe that asks for a TLS handshake and looks at the certificate. Must never send application data.

import type { TlsHealth } from "../../model/health_check.ts";
import type { Attempt } from "./attempt.ts";
import { success } from "./attempt.ts";
import { describeEnd } from "./certificate.ts";
import type { Aim, Doors } from "./socket.ts";
import { openTlsStream } from "./stream.ts";

export function probeTls(doors: Doors, aim: Aim<TlsHealth>, attempt: Attempt): void {
  const wish = { ...aim.health.tls, host: null, protocols: [] };
  openTlsStream(doors, aim, wish, attempt, (stream) => {
    const version = stream.getProtocol() ?? "TLS";
    attempt.stage = "taking leave";
    const { certificate } = attempt;
    const end = certificate === null ? "" : `, ${describeEnd(certificate.endsAtMs, doors.clock.wallMs())}`;
    // The server has to see the handshake end, and the connection, or it would log a fault.
    const leave = (): void => { attempt.end(success(`${version}${end}`)); };
    stream.once("close", leave); // it may be quicker
    stream.end(leave);
  });
}
