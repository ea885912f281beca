// Bytes to text, or why they are none: the size limit, strict UTF-8, no control characters. Runs
// before the YAML parser, which takes seconds and gigabytes over garbage. Must never know YAML.

export const CONFIG_BYTES_MAX = 4 * 1024 * 1024;

/** What is wrong, and where; lines and columns start at 1. */
export interface TextProblem {
  readonly line: number;
  readonly column: number;
  readonly reason: string;
  readonly hint: string | null;
}

export function decodeText(bytes: Uint8Array): { text: string } | { problem: TextProblem } {
  if (bytes.length > CONFIG_BYTES_MAX) {
    return { problem: {
      line: 1, column: 1,
      reason: `the file has ${bytes.length} bytes, more than the ${CONFIG_BYTES_MAX} allowed`,
      hint: "is this the right file?",
    } };
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return { problem: invalidUtf8(bytes) };
  }
  const problem = controlCharacter(text);
  return problem === null ? { text } : { problem };
}

/** No UTF-8 sequence contains a newline byte, so the first bad line can be found line by line. */
function invalidUtf8(bytes: Uint8Array): TextProblem {
  const reason = "is not valid UTF-8";
  const hint = bytes[0] === 0xff || bytes[0] === 0xfe
    ? "the file looks like UTF-16; save it as UTF-8" : "save the file as UTF-8";
  let line = 1;
  let start = 0;
  for (;;) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline;
    const valid = validPrefix(bytes.subarray(start, end));
    if (valid !== null || newline < 0) return { line, column: (valid ?? 0) + 1, reason, hint };
    line += 1;
    start = end + 1;
  }
}

/** Characters before the first bad byte, or null when there is none. */
function validPrefix(line: Uint8Array): number | null {
  if (decodes(line, false)) return null;
  // A prefix that may end inside a character decodes exactly up to the first bad byte: bisect.
  let low = 0;
  let high = line.length;
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    if (decodes(line.subarray(0, middle), true)) low = middle;
    else high = middle;
  }
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return decoder.decode(line.subarray(0, low), { stream: true }).length;
}

function decodes(bytes: Uint8Array, stream: boolean): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream });
    return true;
  } catch {
    return false;
  }
}

/**
 * Tab, newline and CR before newline are text; every other control character is a sign of a
 * mistake.
 */
function controlCharacter(text: string): TextProblem | null {
  const at = text.search(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufeff]|\r(?!\n)/);
  if (at < 0) return null;
  const before = text.slice(0, at);
  const code = text.charCodeAt(at).toString(16).toUpperCase().padStart(4, "0");
  return {
    line: before.split("\n").length,
    column: at - before.lastIndexOf("\n"),
    reason: `contains the control character U+${code}`,
    hint: text.includes("\0") ? "is this a binary file, or UTF-16?" : "remove it; only tab and "
      + "newline are text",
  };
}
