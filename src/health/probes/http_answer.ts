// What an HTTP response says of a backend, whatever version it came by: its status, its word on a drain,
// and its body as far as that is looked at. Must never know a socket.

import { compileExpression, MATCHED_CHARACTERS_MAX } from "../../model/expression.ts";
import type { HttpHealth, JsonField } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { failure, success } from "./attempt.ts";
import { valuesOf, type Field } from "./http_fields.ts";
import { told } from "./words.ts";

export interface HttpAnswer {
  readonly status: number;
  readonly fields: readonly Field[];
}

/** Who has to be told of the body as it comes. */
export interface BodyReader {
  readonly hear: (bytes: Uint8Array) => void;
  /** Nothing more comes; the first call counts. */
  readonly end: (isWhole: boolean) => void;
}

const CUT = failure("connection closed before the end of the body");

/** How much of a body is looked at. */
const BODY_MAX_BYTES = 64 * 1024;
/** How much of a header is told. */
const HEADER_TOLD_MAX = 100;

/** Ends the attempt, at once or as soon as the body has been looked at. */
export function judgeAnswer(answer: HttpAnswer, health: HttpHealth, attempt: Attempt): BodyReader {
  const { status } = answer;
  const drain = drainIn(answer, health);
  if (drain !== null) {
    attempt.end({ ...success(drain), drains: true });
  } else if (!health.statuses.some((range) => status >= range.from && status <= range.to)) {
    attempt.end(failure(`status ${status}, expected ${describeStatuses(health.statuses)}`));
  } else if (health.body === null && health.bodyMatches === null && health.json.length === 0) {
    attempt.end(success(`status ${status}`));
  } else {
    attempt.stage = "reading the body";
    return readBody(status, health, attempt);
  }
  return { hear: () => { /* the attempt is over */ }, end: () => { /* likewise */ } };
}

/** What the backend says of its drain: 503 with the header, whatever counts as success; else null. */
function drainIn({ status, fields }: HttpAnswer, { drainHeader }: HttpHealth): string | null {
  if (drainHeader === null || status !== 503) return null;
  const { name, value } = drainHeader;
  const said = valuesOf(fields, name).find((each) => value === null || each.trim().toLowerCase() === value.toLowerCase());
  return said === undefined ? null : `status 503 with ${name}: ${said.slice(0, HEADER_TOLD_MAX)}`;
}

function describeStatuses(statuses: HttpHealth["statuses"]): string {
  return statuses.map(({ from, to }) => (from === to ? String(from) : `${from}-${to}`)).join(", ");
}

/** Its start, or all of it where it is short; a text alone is looked for as the body comes. */
function readBody(status: number, health: HttpHealth, attempt: Attempt): BodyReader {
  const isTextAlone = health.bodyMatches === null && health.json.length === 0;
  const wanted = Buffer.from(health.body ?? "");
  const body = Buffer.alloc(BODY_MAX_BYTES);
  let length = 0;
  const judge = (isWhole: boolean): void => {
    const verdict = judgeBody(body.subarray(0, length), isWhole, health);
    attempt.end({ ...verdict, reason: `status ${status}, ${verdict.reason}` });
  };
  return {
    hear: (bytes) => {
      const from = Math.max(0, length - wanted.length + 1);
      const taken = bytes.subarray(0, BODY_MAX_BYTES - length);
      body.set(taken, length);
      length += taken.length;
      if (length === BODY_MAX_BYTES || (isTextAlone && body.subarray(from, length).includes(wanted))) judge(false);
    },
    end: (isWhole) => {
      if (isWhole) judge(true);
      else attempt.end(CUT);
    },
  };
}

/** Looks for the text as bytes, so that one outside UTF-8 is found too. */
function judgeBody(body: Buffer, isWhole: boolean, health: HttpHealth): Verdict {
  const { body: text, bodyMatches, json } = health;
  const what = isWhole || body.length < BODY_MAX_BYTES ? "the body" : `the first ${BODY_MAX_BYTES} bytes of the body`;
  const verb = what === "the body" ? "lacks" : "lack";
  if (text !== null && !body.includes(text)) return failure(`${what} ${verb} "${text}"`);
  if (bodyMatches !== null && !compileExpression(bodyMatches)(body.toString())) {
    const isAll = isWhole && body.length <= MATCHED_CHARACTERS_MAX;
    const where = isAll ? "the body" : `the first ${MATCHED_CHARACTERS_MAX} characters of the body`;
    return failure(`nothing in ${where} matches /${bodyMatches}/`);
  }
  if (json.length > 0) {
    if (!isWhole) return failure(`the body is longer than ${BODY_MAX_BYTES} bytes, which is too long to be read as JSON`);
    const complaint = judgeFields(body.toString(), json);
    if (complaint !== null) return failure(complaint);
  }
  return success("body matches");
}

function judgeFields(text: string, fields: readonly JsonField[]): string | null {
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch {
    return `the body is not JSON: ${told(text)}`;
  }
  for (const { path, value } of fields) {
    const found = fieldAt(root, path);
    if (found === value) continue;
    return `${path} ${describeField(found)}, expected ${JSON.stringify(value)}`;
  }
  return null;
}

function describeField(found: unknown): string {
  if (found === undefined) return "is not in the body";
  if (typeof found !== "object" || found === null) return `is ${told(JSON.stringify(found))}`;
  return Array.isArray(found) ? "is a list" : "is a mapping";
}

/** "checks.0.status": keys of mappings and places in lists. */
function fieldAt(root: unknown, path: string): unknown {
  let here = root;
  for (const key of path.split(".")) {
    if (typeof here !== "object" || here === null || !Object.hasOwn(here, key)) return undefined;
    here = (here as Readonly<Record<string, unknown>>)[key];
  }
  return here;
}
