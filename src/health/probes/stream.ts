// The stream that a probe over TCP talks on: a plain connection, or one over TLS whose certificate has been
// looked at before anything is said. Knows handshakes; must never know what is said.

import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { ProbeTls } from "../../model/health_check.ts";
import type { Attempt } from "./attempt.ts";
import { attempted, failure, OwnFault, verdictOf } from "./attempt.ts";
import { describeUntrusted, lookAtCertificate } from "./certificate.ts";
import { readOwnFile } from "./secret.ts";
import type { Aim, Doors } from "./socket.ts";
import { discard, openSocket, sourceOf } from "./socket.ts";

/** What is asked of the TLS of one probe. */
export interface TlsWish extends ProbeTls {
  /** The name that is asked for without `serverName`, or null. */
  readonly host: string | null;
  /** For ALPN; none: it is not used. */
  readonly protocols: readonly string[];
}

/** Calls back when something can be said. What goes wrong before ends the attempt. */
export function openStream(
  doors: Doors, aim: Aim, tls: TlsWish | null, attempt: Attempt, begin: (stream: Socket) => void,
): void {
  if (tls === null) {
    const socket = openSocket(doors, aim);
    attempt.release = () => { discard(socket, aim); };
    const leaveOpen = listenForEnd(socket, attempt, "connection closed");
    socket.once("connect", () => {
      leaveOpen();
      attempted(attempt, () => { begin(socket); });
    });
    return;
  }
  openTlsStream(doors, aim, tls, attempt, begin);
}

export function openTlsStream(
  doors: Doors, aim: Aim, tls: TlsWish, attempt: Attempt, begin: (stream: TLSSocket) => void,
): void {
  const carrier = aim.place === null ? null : openSocket(doors, aim);
  shakeHands(doors, aim, tls, carrier, attempt, begin);
}

/** The same over a connection that is open and has nothing under way. */
export function shakeHands(
  doors: Doors, aim: Aim, tls: TlsWish, carrier: Socket | null, attempt: Attempt,
  begin: (stream: TLSSocket) => void,
): void {
  const stream = connectTls(doors, aim, tls, carrier);
  attempt.release = () => {
    discard(stream, aim);
    if (carrier !== null) discard(carrier, { ...aim, place: null });
  };
  const onConnect = (): void => { attempt.stage = "shaking hands"; };
  if (carrier === null || carrier.connecting) stream.once("connect", onConnect);
  else onConnect();
  carrier?.once("error", (error) => { attempt.end(verdictOf(error)); });
  const leaveOpen = listenForEnd(stream, attempt, "connection closed during the TLS handshake");
  stream.once("secureConnect", () => {
    leaveOpen();
    attempted(attempt, () => {
      const complaint = lookAtCertificate(stream, tls, attempt, doors.clock.wallMs());
      if (complaint !== null) attempt.end(failure(complaint));
      else begin(stream);
    });
  });
}

function connectTls(doors: Doors, aim: Aim, tls: TlsWish, carrier: Socket | null): TLSSocket {
  const { address, port } = aim;
  const name = tls.serverName ?? tls.host;
  return doors.net.connectTls({
    host: address.text, port, ALPNProtocols: [...tls.protocols],
    rejectUnauthorized: false, // certificate.ts judges, and has the certificate then
    ...(carrier === null ? sourceOf(aim) : { socket: carrier }),
    ...(name === null ? {} : { servername: name }),
    ...(tls.ca === null ? {} : { ca: trusted(doors, tls.ca) }),
  });
}

function trusted(doors: Doors, path: string): Buffer {
  const pem = readOwnFile(doors, path);
  if (!pem.includes("-----BEGIN CERTIFICATE-----")) throw new OwnFault(`${path} (ca) holds no certificate in PEM`);
  return pem;
}

const NOTHING = Buffer.alloc(0);
export interface Patience {
  /** How much the server may say. */
  readonly maxBytes: number;
  /** The connection has ended; may end the attempt with better words. */
  readonly hearEnd?: () => void;
}

const PATIENCE: Patience = { maxBytes: 64 * 1024 };

/**
 * Gives `hear` what has come and was not taken yet; it says how many bytes it takes, 0 until there are
 * enough. An end of the connection, or of our patience with a server that goes on, ends the attempt.
 */
export function converse(
  stream: Socket, attempt: Attempt, hear: (heard: Buffer) => number, { maxBytes, hearEnd }: Patience = PATIENCE,
): void {
  let heard: Buffer = NOTHING;
  let total = 0;
  stream.on("data", (chunk: Buffer) => {
    total += chunk.length;
    if (total > maxBytes) {
      attempt.end(failure(`the server said more than ${maxBytes} bytes`));
      return;
    }
    heard = heard.length === 0 ? chunk : Buffer.concat([heard, chunk]);
    attempted(attempt, () => {
      // Nobody asks for what else has come with the bytes that ended the attempt.
      for (let taken = -1; taken !== 0 && heard.length > 0 && !stream.destroyed; heard = heard.subarray(taken)) taken = hear(heard);
    });
  });
  const onEnd = (): void => {
    hearEnd?.();
    attempt.end(failure(`connection closed ${heard.length === 0 ? "without" : "in the middle of"} an answer`));
  };
  stream.on("end", onEnd);
  stream.on("close", onEnd);
}

/** Errors end the attempt for good, and so does a close until what is returned is called. */
function listenForEnd(stream: Socket, attempt: Attempt, closed: string): () => void {
  stream.on("error", (error) => {
    // Node's words for an end of the connection within a handshake.
    const isCut = error.message.startsWith("Client network socket disconnected");
    attempt.end(isCut ? failure(closed) : describeUntrusted(error) ?? verdictOf(error));
  });
  const onClose = (): void => { attempt.end(failure(closed)); };
  stream.on("close", onClose);
  return () => { stream.off("close", onClose); };
}
