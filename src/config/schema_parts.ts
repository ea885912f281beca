// What schemas are made of: texts in the small languages of formats.ts, and whole numbers. Knows zod
// and how a complaint becomes an issue; must never know a key.

import * as z from "zod";
import {
  checkDuration, checkHostAddress, checkName, checkPath, DURATION_PATTERN, NAME_PATTERN, PATH_PATTERN,
} from "./formats.ts";
import type { Check } from "./formats.ts";

interface TextMeta {
  /** What it is, after "expected": "a duration". */
  readonly title: string;
  readonly description?: string;
  readonly pattern?: string;
  readonly examples?: readonly string[];
  /** A secret: no message repeats what the file says (a keyword of JSON Schema). */
  readonly writeOnly?: boolean;
}

/** A text in one of the small languages of formats.ts. */
export function text(check: Check, meta: TextMeta): z.ZodString {
  return z.string().superRefine((value, context) => {
    const complaint = check(value);
    if (complaint === null) return;
    context.addIssue(
      { code: "custom", message: complaint.reason, params: { hint: complaint.hint } },
    );
  }).meta({ ...meta });
}

export function name(description: string): z.ZodString {
  return text(checkName, { title: "a name", description, pattern: NAME_PATTERN, examples: ["web-1"] });
}

export function integer(description: string, min: number, max: number): z.ZodInt {
  return z.int().min(min).max(max).meta({ title: "a whole number", description });
}

export function duration(description: string, min: string, max: string): z.ZodString {
  return text(checkDuration(min, max), {
    title: "a duration", description: `${description} ${min} to ${max}.`,
    pattern: DURATION_PATTERN, examples: ["500ms", "2s", "1m", "1h"],
  });
}

export function port(description: string): z.ZodInt {
  return z.int().min(1).max(65535).meta({ title: "a port", description });
}

export function hostAddress(description: string): z.ZodString {
  return text(checkHostAddress, {
    title: "an IP address", description, examples: ["10.0.0.11", "2001:db8::11"],
  });
}

export function path(description: string, check: Check = checkPath): z.ZodString {
  return text(check, { title: "an absolute path", description, pattern: PATH_PATTERN });
}
