// A probe by the gRPC health protocol (grpc.health.v1): one call of Check for one service. Written over our
// HTTP/2: the message asked with and the one that comes back have one field each, and a library's channel would
// open its own connections, past Env and the plane's. Knows gRPC's framing and these two messages.

import type { GrpcHealth } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { failure, success } from "./attempt.ts";
import { nameIn } from "./http.ts";
import { exchange, type Http2Listener } from "./http2_client.ts";
import { valuesOf, type Field } from "./http_fields.ts";
import type { Aim, Doors } from "./socket.ts";
import { authorityOf } from "./socket.ts";
import { openStream } from "./stream.ts";
import { told, toldHex } from "./words.ts";

const MESSAGE_MAX_BYTES = 4096;
const FRAME_BYTES = 5;

/** Of HealthCheckResponse.ServingStatus. */
const STATUSES = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"] as const;

/** Of gRPC, by number. */
const CODES = [
  "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
  "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
] as const;

export function probeGrpc(doors: Doors, aim: Aim<GrpcHealth>, attempt: Attempt): void {
  const { tls, host, service } = aim.health;
  const wish = tls === null ? null : { ...tls, host: nameIn(host), protocols: ["h2"] };
  openStream(doors, aim, wish, attempt, (stream) => {
    const fields = Object.entries({
      ":method": "POST", ":scheme": tls === null ? "http" : "https",
      ":authority": host ?? authorityOf(aim, tls === null ? 80 : 443), ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc", "te": "trailers", "user-agent": "pointsman-probe",
    });
    exchange(stream, { fields, body: frame(encodeRequest(service)) }, attempt, listenerOf(service, attempt));
  });
}

function listenerOf(service: string, attempt: Attempt): Http2Listener {
  let heard = Buffer.alloc(0);
  let isAnswered = false;
  return {
    response: (status, headers) => {
      isAnswered = true;
      attempt.stage = "reading the response";
      const complaint = judgeHeaders(status, headers);
      if (complaint !== null) attempt.end(complaint);
    },
    data: (bytes) => {
      heard = Buffer.concat([heard, bytes]);
      if (heard.length > FRAME_BYTES + MESSAGE_MAX_BYTES) {
        attempt.end(failure(`the answer is longer than ${MESSAGE_MAX_BYTES} bytes`));
      }
    },
    end: (trailers) => { attempt.end(judgeCall(trailers, heard, service)); },
    cut: () => {
      attempt.end(failure(`connection closed ${isAnswered ? "in the middle of" : "without"} a response`));
    },
  };
}

/** A call that failed at once has its status there. */
function judgeHeaders(status: number, headers: readonly Field[]): Verdict | null {
  if (valuesOf(headers, "grpc-status").length > 0) return judgeStatus(headers);
  const [type = ""] = valuesOf(headers, "content-type");
  if (status !== 200) return failure(`not a gRPC server: HTTP status ${status}`);
  return type.startsWith("application/grpc") ? null : failure(`not a gRPC server: content-type ${told(type)}`);
}

/** Null: the call has succeeded. */
function judgeStatus(headers: readonly Field[]): Verdict | null {
  const [code = ""] = valuesOf(headers, "grpc-status");
  const [message = ""] = valuesOf(headers, "grpc-message");
  if (code === "0") return null;
  if (code === "") return failure("the answer ended without a gRPC status");
  const name = CODES[Number(code)] ?? `status ${told(code)}`;
  const words = decodeMessage(message);
  const hint = name === "UNIMPLEMENTED" ? " (no health service there?)" : "";
  return failure(`the server answered ${name}${words === "" ? "" : `: ${told(words)}`}${hint}`);
}

function judgeCall(trailers: readonly Field[], heard: Buffer, service: string): Verdict {
  const refusal = judgeStatus(trailers);
  if (refusal !== null) return refusal;
  const length = heard.length < FRAME_BYTES ? -1 : heard.readUInt32BE(1);
  const isWhole = heard[0] === 0 && heard.length === FRAME_BYTES + length;
  const status = isWhole ? decodeResponse(heard.subarray(FRAME_BYTES)) : null;
  if (status === null) return failure(`not a health response: ${toldHex(heard)}`);
  const name = STATUSES[status] ?? `status ${status}`;
  const whose = service === "" ? "" : ` (${service})`;
  return name === "SERVING" ? success(`SERVING${whose}`) : failure(`the server answered ${name}${whose}`);
}

/** RFC 3986's percent-encoding, of UTF-8. */
function decodeMessage(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Not compressed, and how long. */
function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_BYTES);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Field 1, a text; the empty one is left out, as proto3 does. */
function encodeRequest(service: string): Buffer {
  const text = Buffer.from(service);
  if (text.length === 0) return text;
  const length = text.length < 0x80 ? [text.length] : [(text.length & 0x7f) | 0x80, text.length >> 7];
  return Buffer.concat([Buffer.of(0x0a, ...length), text]);
}

/** Field 1, an enum: 0 where it is left out. Other fields may come with later versions. Null: no such message. */
function decodeResponse(message: Buffer): number | null {
  let status = 0;
  for (let at = 0; at < message.length;) {
    const tag = varint(message, at);
    if (tag === null) return null;
    const value = varint(message, tag.end);
    if (value === null) return null;
    const wire = tag.value & 7;
    if (tag.value === 0x08) status = value.value;
    if (wire === 0) at = value.end;
    else if (wire === 2) at = value.end + value.value;
    else return null;
    if (at > message.length) return null;
  }
  return status;
}

function varint(bytes: Buffer, from: number): { readonly value: number; readonly end: number } | null {
  let value = 0;
  for (let at = from; at < Math.min(bytes.length, from + 5); at += 1) {
    value += (bytes[at]! & 0x7f) * 2 ** (7 * (at - from));
    if ((bytes[at]! & 0x80) === 0) return { value, end: at + 1 };
  }
  return null;
}
