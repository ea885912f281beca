// A probe that knocks at a PostgreSQL server as pg_isready does: whoever asks us to authenticate, or refuses
// us for who we are, is ready to serve others. Knows the first messages of the protocol (version 3) alone.

import type { Socket } from "node:net";
import type { PostgresHealth } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { failure, success } from "./attempt.ts";
import type { Aim, Doors } from "./socket.ts";
import { converse, openStream, shakeHands } from "./stream.ts";
import { told } from "./words.ts";

const PROTOCOL_3_0 = 0x0003_0000;
/** In the place of a version: the client would like TLS. */
const SSL_REQUEST = 80_877_103;
const MESSAGE_MAX_BYTES = 32 * 1024;

export function probePostgres(doors: Doors, aim: Aim<PostgresHealth>, attempt: Attempt): void {
  const { health } = aim;
  const { tls } = health;
  openStream(doors, aim, null, attempt, (stream) => {
    if (tls === null) {
      startUp(stream, health, attempt);
      return;
    }
    askForTls(stream, attempt, () => {
      shakeHands(doors, aim, { ...tls, host: null, protocols: ["postgresql"] }, stream, attempt, (secure) => {
        startUp(secure, health, attempt);
      });
    });
  });
}

/** The answer is one byte, and the handshake begins right behind it. */
function askForTls(stream: Socket, attempt: Attempt, go: () => void): void {
  attempt.stage = "asking for TLS";
  const onClose = (): void => { attempt.end(failure("connection closed without an answer")); };
  stream.once("close", onClose);
  stream.once("readable", () => {
    const answer = stream.read(1) as Buffer | null;
    if (answer === null) return; // the end: close follows
    stream.off("close", onClose);
    const letter = answer.toString("latin1");
    if (letter === "S") go();
    else if (letter === "N") attempt.end(failure("the server offers no TLS"));
    else converse(stream, attempt, (heard) => judge(Buffer.concat([answer, heard]), attempt) === 0 ? 0 : heard.length);
  });
  stream.write(packet(SSL_REQUEST, ""));
}

function startUp(stream: Socket, { user, database }: PostgresHealth, attempt: Attempt): void {
  attempt.stage = "waiting for the answer";
  converse(stream, attempt, (heard) => judge(heard, attempt));
  const settings = ["user", user, "database", database ?? user, "application_name", "pointsman"];
  stream.write(packet(PROTOCOL_3_0, `${settings.join("\0")}\0\0`));
}

function packet(code: number, body: string): Buffer {
  const length = 8 + Buffer.byteLength(body);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(length, 0);
  head.writeUInt32BE(code, 4);
  return Buffer.concat([head, Buffer.from(body)]);
}

/** How many bytes of it are a message that was looked at; 0: more has to come. */
function judge(heard: Buffer, attempt: Attempt): number {
  const type = String.fromCharCode(heard[0] ?? 0);
  if (!"REvN".includes(type)) {
    attempt.end(failure(`not a PostgreSQL server: ${told(heard)}`));
    return heard.length;
  }
  if (heard.length < 5) return 0;
  const length = heard.readUInt32BE(1);
  if (length < 4 || length > MESSAGE_MAX_BYTES) {
    attempt.end(failure(`not a PostgreSQL server: ${told(heard)}`));
    return heard.length;
  }
  if (heard.length < length + 1) return 0;
  const body = heard.subarray(5, length + 1);
  if (type === "R") attempt.end(judgeAuthentication(body));
  if (type === "E") attempt.end(judgeError(body));
  return length + 1; // a notice, or the protocol that it would rather speak
}

const METHODS: Readonly<Record<number, string>> = {
  3: "a password", 5: "a password (md5)", 7: "GSSAPI", 9: "SSPI", 10: "SASL",
};

function judgeAuthentication(body: Buffer): Verdict {
  const code = body.length < 4 ? -1 : body.readUInt32BE(0);
  if (code === 0) return success("the server lets us in");
  return success(`the server asks for ${METHODS[code] ?? `authentication ${code}`}`);
}

/**
 * Refusals for who we are: class 28 (who may come in), a database that is not there, no right to connect to
 * it. What else the server says, from "starting up" (57P03) to "too many clients" (53300), is no service.
 */
const PERSONAL = /^(28...|3D000|42501)$/;

function judgeError(body: Buffer): Verdict {
  const fields = new Map(body.toString().split("\0").map((field) => [field.slice(0, 1), field.slice(1)]));
  const code = fields.get("C") ?? "";
  const words = `${told(fields.get("S") ?? "error")} ${told(code)}: ${told(fields.get("M") ?? "")}`;
  return PERSONAL.test(code) ? success(`the server answers, and refuses us: ${words}`)
    : failure(`the server answered ${words}`);
}
