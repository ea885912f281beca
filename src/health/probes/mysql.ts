// A probe that reads the greeting of a MySQL or MariaDB server, and logs in without a password where a user is
// named. Knows the first packets of protocol 10 alone.

import type { Socket } from "node:net";
import type { MysqlHealth } from "../../model/health_check.ts";
import type { Attempt } from "./attempt.ts";
import { failure, success } from "./attempt.ts";
import type { Aim, Doors } from "./socket.ts";
import { converse, openStream } from "./stream.ts";
import { told } from "./words.ts";

const HEADER_BYTES = 4;
const PACKET_MAX_BYTES = 4096;
const [OK, ERROR, SWITCH] = [0x00, 0xff, 0xfe];
const PROTOCOL = 10;
/** Of client and server: long passwords' flags, protocol 4.1, secure authentication, plugins' names. */
const CAPABILITIES = 0x0000_0001 | 0x0000_0200 | 0x0000_8000 | 0x0008_0000;
const UTF8 = 33;
const QUIT = Buffer.from("0100000001", "hex");

export function probeMysql(doors: Doors, aim: Aim<MysqlHealth>, attempt: Attempt): void {
  const { user } = aim.health;
  openStream(doors, aim, null, attempt, (stream) => {
    attempt.stage = "waiting for the greeting";
    let version: string | null = null;
    converse(stream, attempt, (heard) => {
      const packet = packetIn(heard);
      if (packet === null) return 0;
      if (packet === "none") attempt.end(failure(`not a MySQL server: ${told(heard)}`));
      else if (version === null) {
        version = greeting(packet, attempt);
        if (version !== null && user === null) attempt.end(success(`version ${version}`));
        else if (version !== null && user !== null) logIn(stream, user, attempt);
      } else judgeLogin(packet, version, stream, attempt);
      return packet === "none" ? heard.length : HEADER_BYTES + packet.length;
    });
  });
}

/** Null: more has to come. */
function packetIn(heard: Buffer): Buffer | "none" | null {
  if (heard.length < HEADER_BYTES) return null;
  const length = heard.readUIntLE(0, 3);
  if (length === 0 || length > PACKET_MAX_BYTES) return "none";
  return heard.length < HEADER_BYTES + length ? null : heard.subarray(HEADER_BYTES, HEADER_BYTES + length);
}

/** The server's version; null has ended the attempt. */
function greeting(packet: Buffer, attempt: Attempt): string | null {
  if (packet[0] === ERROR) {
    attempt.end(failure(`the server answered ${errorIn(packet)}`));
    return null;
  }
  const end = packet.indexOf(0, 1);
  if (packet[0] === PROTOCOL && end > 1) return told(packet.subarray(1, end));
  attempt.end(failure(`not a MySQL server: ${told(packet)}`));
  return null;
}

function logIn(stream: Socket, user: string, attempt: Attempt): void {
  attempt.stage = "logging in";
  const head = Buffer.alloc(32);
  head.writeUInt32LE(CAPABILITIES, 0);
  head.writeUInt32LE(PACKET_MAX_BYTES, 4);
  head.writeUInt8(UTF8, 8);
  // The name, no answer to the server's challenge, and how one would have been made.
  const body = Buffer.concat([head, Buffer.from(`${user}\0\0mysql_native_password\0`)]);
  stream.write(Buffer.concat([Buffer.of(body.length & 0xff, body.length >> 8, 0, 1), body]));
}

function judgeLogin(packet: Buffer, version: string, stream: Socket, attempt: Attempt): void {
  if (packet[0] === OK) {
    stream.write(QUIT);
    attempt.end(success(`version ${version}, logged in`));
  } else if (packet[0] === ERROR) attempt.end(failure(`the server answered ${errorIn(packet)}`));
  else if (packet[0] === SWITCH) attempt.end(failure("the server wants another way of authentication of this user"));
  else attempt.end(failure(`not an answer to a login: ${told(packet)}`));
}

/** "1040: Too many connections": a number, a state where there is one, and words. */
function errorIn(packet: Buffer): string {
  if (packet.length < 3) return "an error without a number";
  const words = packet.subarray(packet[3] === "#".charCodeAt(0) ? 9 : 3);
  return `${packet.readUInt16LE(1)}: ${told(words)}`;
}
