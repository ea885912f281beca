// What an HTTP response says of a backend, whatever version it came by: its status, its word on a drain,
// and its body as far as that is looked at. Must never know a socket.

import type { Readable } from "node:stream";
import type { HttpHealth } from "../../model/health_check.ts";
import type { Attempt } from "./attempt.ts";
import { failure, success, verdictOf } from "./attempt.ts";

export interface HttpAnswer {
  readonly status: number;
  /** Of a header, by its name in small letters: one for each line. */
  readonly valuesOf: (name: string) => readonly string[];
  readonly body: Readable;
}

/** How much of a body is read for a match. */
const BODY_MAX_BYTES = 64 * 1024;
/** How much of a header is told. */
const HEADER_TOLD_MAX = 100;

export function judgeAnswer(answer: HttpAnswer, health: HttpHealth, attempt: Attempt): void {
  const { status, body } = answer;
  body.on("error", (error) => { attempt.end(verdictOf(error)); });
  const drain = drainIn(answer, health);
  if (drain !== null) {
    attempt.end({ ...success(drain), drains: true });
  } else if (!health.statuses.some((range) => status >= range.from && status <= range.to)) {
    attempt.end(failure(`status ${status}, expected ${describeStatuses(health.statuses)}`));
  } else if (health.body === null) {
    attempt.end(success(`status ${status}`));
  } else {
    attempt.stage = "reading the body";
    matchBody(body, health.body, attempt, status);
  }
}

/** What the backend says of its drain: 503 with the header, whatever counts as success; else null. */
function drainIn({ status, valuesOf }: HttpAnswer, { drainHeader }: HttpHealth): string | null {
  if (drainHeader === null || status !== 503) return null;
  const { name, value } = drainHeader;
  const said = valuesOf(name).find((each) => value === null || each.trim().toLowerCase() === value.toLowerCase());
  return said === undefined ? null : `status 503 with ${name}: ${said.slice(0, HEADER_TOLD_MAX)}`;
}

function describeStatuses(statuses: HttpHealth["statuses"]): string {
  return statuses.map(({ from, to }) => (from === to ? String(from) : `${from}-${to}`)).join(", ");
}

/** Looks for the text as bytes, so that one split over two chunks or outside UTF-8 is found too. */
function matchBody(response: Readable, text: string, attempt: Attempt, status: number): void {
  const wanted = Buffer.from(text);
  const body = Buffer.alloc(BODY_MAX_BYTES);
  let length = 0;
  response.on("data", (chunk: Buffer) => {
    const from = Math.max(0, length - wanted.length + 1);
    length += chunk.copy(body, length);
    if (body.subarray(from, length).includes(wanted)) {
      attempt.end(success(`status ${status}, body matches`));
    } else if (length === BODY_MAX_BYTES) {
      const reason = `the first ${BODY_MAX_BYTES} bytes of the body lack "${text}"`;
      attempt.end(failure(`status ${status}, ${reason}`));
    }
  });
  response.once("end", () => {
    attempt.end(failure(`status ${status}, the body lacks "${text}"`));
  });
  response.once("close", () => {
    attempt.end(failure("connection closed before the end of the body"));
  });
}
