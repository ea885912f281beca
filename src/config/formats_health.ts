// The small languages inside health checks: headers, ranges of status codes, regular expressions, secrets. Each
// has one reader; a check says what is wrong with a text the reader refuses. Must never know where it stands.

import type { ProbePayload, ProbeSecret } from "../model/health_check.ts";
import { compileExpression } from "../model/expression.ts";
import type { Complaint } from "./formats.ts";
import { quoted } from "./problem.ts";

export const STATUSES_PATTERN = "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$";
export const SECRET_FILE_PATTERN = "^file:/[^\\u0000-\\u001f\\u007f]+$";

/** RFC 9110, 5.1 and 5.5: a token, and visible characters with blanks between them. */
const HEADER_PATTERN = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100})(?::[ \t]*([!-~](?:[ -~]{0,200}[!-~])?)[ \t]*)?$/;

export function checkHeader(text: string): Complaint | null {
  if (HEADER_PATTERN.test(text)) return null;
  return { reason: `${quoted(text)} is not a header`, hint: "such as X-Drain, or X-Drain: 1" };
}

/** Of a text that was checked. */
export function readHeader(text: string): { readonly name: string; readonly value: string | null } {
  const [, name = "", value = null] = HEADER_PATTERN.exec(text) ?? [];
  return { name: name.toLowerCase(), value };
}

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$/;
/** What the probe says itself, or what would change how the request is framed. */
const OWN_HEADERS: ReadonlySet<string> = new Set([
  "host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect", "keep-alive",
  "proxy-connection", "http2-settings",
]);

export function checkHeaderName(name: string): Complaint | null {
  if (!TOKEN.test(name)) return { reason: `${quoted(name)} is not the name of a header`, hint: "such as X-Probe" };
  const lower = name.toLowerCase();
  if (!OWN_HEADERS.has(lower)) return null;
  return { reason: `${name} is for the probe to say`, hint: lower === "host" ? "there is a key host" : null };
}

const SECRET_HEADERS = /^(authorization|proxy-authorization|cookie|x-api-key|x-auth-token)$/i;

/** Whether what it says is not for `config show`. */
export function isSecretHeader(name: string): boolean {
  return SECRET_HEADERS.test(name);
}

export function checkHeaderValue(text: string): Complaint | null {
  if (text.startsWith("file:")) return checkSecretFile(text);
  if (/^[!-~]([ -~]{0,1000}[!-~])?$/.test(text)) return null;
  return { reason: `${quoted(text)} is not the value of a header`, hint: "visible ASCII characters, with blanks between them" };
}

/** Of a command's environment. */
export function checkVariable(text: string): Complaint | null {
  if (text.startsWith("file:")) return checkSecretFile(text);
  return text.length <= 4096 && !text.includes("\0") ? null
    : { reason: `${quoted(text)} is not the value of a variable`, hint: "at most 4096 characters" };
}

export function checkVariableName(name: string): Complaint | null {
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,100}$/.test(name)) {
    return { reason: `${quoted(name)} is not the name of a variable`, hint: "such as TOKEN" };
  }
  return name.startsWith("POINTSMAN_") ? { reason: `${name} is for the probe to say`, hint: null } : null;
}

/** Of what must not stand in the config itself. */
export function checkSecretFile(text: string): Complaint | null {
  if (new RegExp(SECRET_FILE_PATTERN).test(text)) return null;
  const reason = text.startsWith("file:") ? `${quoted(text)} is not a file` : "a secret stays in a file";
  return { reason, hint: "its absolute path: file:/etc/pointsman/secret" };
}

export function readSecretText(text: string): ProbeSecret {
  return text.startsWith("file:") ? { from: "file", path: text.slice("file:".length) } : { from: "inline", text };
}

export function formatSecret(secret: ProbeSecret): string {
  return secret.from === "file" ? `file:${secret.path}` : secret.text;
}

export const PAYLOAD_BYTES_MAX = 1200;
const HEX = /^hex:(?:[0-9a-fA-F]{2})+$/;

export function checkPayload(text: string): Complaint | null {
  if (text === "") return { reason: "the text is empty", hint: null };
  if (text.startsWith("hex:") && !HEX.test(text)) {
    return { reason: `${quoted(text)} is not a payload`, hint: "two hexadecimal digits for each byte: hex:0102ff" };
  }
  const size = readPayload(text).bytes.length;
  if (size <= PAYLOAD_BYTES_MAX) return null;
  return { reason: `${size} bytes are too many for one datagram`, hint: `at most ${PAYLOAD_BYTES_MAX}` };
}

export function readPayload(text: string): ProbePayload {
  const isHex = text.startsWith("hex:");
  return { bytes: new Uint8Array(isHex ? Buffer.from(text.slice("hex:".length), "hex") : Buffer.from(text)), isHex };
}

export function formatPayload({ bytes, isHex }: ProbePayload): string {
  return isHex ? `hex:${Buffer.from(bytes).toString("hex")}` : Buffer.from(bytes).toString();
}

export function checkDomainName(text: string): Complaint | null {
  const labels = text.replace(/\.$/, "").split(".");
  const isName = text === "." || (text.length <= 253 && labels.every((label) => /^[0-9A-Za-z_-]{1,63}$/.test(label)));
  return isName ? null : { reason: `${quoted(text)} is not a domain name`, hint: "such as www.example.org" };
}

export function checkExpression(text: string): Complaint | null {
  try {
    compileExpression(text);
    return null;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { reason: `${quoted(text)} cannot be used: ${why}`, hint: "the syntax is that of RE2" };
  }
}

export function checkStatuses(text: string): Complaint | null {
  const range = readStatuses(text);
  if (!new RegExp(STATUSES_PATTERN).test(text)) {
    return {
      reason: `${quoted(text)} is not a range of status codes`, hint: "such as 200 or 200-399",
    };
  }
  if (range.from > range.to) {
    return { reason: `the range ${text} is empty`, hint: `${range.to}-${range.from}?` };
  }
  return null;
}

export function readStatuses(text: string | number): { from: number; to: number } {
  const [from = "", to = from] = String(text).split("-");
  return { from: Number(from), to: Number(to) };
}

export function formatStatuses(
  range: { readonly from: number; readonly to: number },
): string | number {
  return range.from === range.to ? range.from : `${range.from}-${range.to}`;
}
