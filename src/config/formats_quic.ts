// Texts about QUIC connection IDs: server IDs and keys. A key is a secret, so no complaint repeats
// one. Knows texts only; must never know where in the file they stand.

import type { QuicKey } from "../model/config.ts";
import { hexBytes } from "../model/hex.ts";
import type { Complaint } from "./formats.ts";
import { quoted } from "./problem.ts";

export const SERVER_ID_PATTERN = "^([0-9a-fA-F]{2}){1,15}$";
export const QUIC_KEY_PATTERN = "^(file:/[^\\u0000-\\u001f]+|[0-9a-fA-F]{32})$";
/** Stands for a key where configs are shown. */
export const HIDDEN_KEY = "(hidden)";

export function checkServerId(text: string): Complaint | null {
  if (new RegExp(SERVER_ID_PATTERN).test(text)) return null;
  const hint = "1 to 15 bytes, two hexadecimal digits each, in quotes";
  return { reason: `${quoted(text)} is not a server ID`, hint };
}

export function checkQuicKey(text: string): Complaint | null {
  if (new RegExp(QUIC_KEY_PATTERN).test(text)) return null;
  if (text === HIDDEN_KEY) {
    return { reason: "stands for a key that is not shown", hint: "write the key itself" };
  }
  if (text.startsWith("file:")) {
    const hint = "the file has an absolute path: file:/etc/pointsman/quic.key";
    return { reason: "this is not a key", hint };
  }
  const hint = "32 hexadecimal digits in quotes, or file:/etc/pointsman/quic.key";
  return { reason: "this is not a key", hint };
}

/** The key of a text that passed checkQuicKey. */
export function readQuicKey(text: string): QuicKey {
  if (text.startsWith("file:")) {
    return { from: "file", path: text.slice("file:".length), bytes: null };
  }
  return { from: "inline", bytes: hexBytes(text) };
}

/** As the file would have it, but for the digits. */
export function formatQuicKey(key: QuicKey): string {
  return key.from === "file" ? `file:${key.path}` : HIDDEN_KEY;
}

/** The key in a file, or null: 32 hexadecimal digits and what surrounds them. */
export function keyInFile(content: Uint8Array): Uint8Array | null {
  const text = new TextDecoder("latin1").decode(content).trim();
  return /^[0-9a-fA-F]{32}$/.test(text) ? hexBytes(text) : null;
}

/** A config text without the keys that are written in it. */
export function withoutKeys(text: string): string {
  return text.replace(
    /(\bkey["']?\s*:\s*["']?)[0-9a-fA-F]{32}(?![0-9a-fA-F])/g, `$1${HIDDEN_KEY}`,
  );
}
