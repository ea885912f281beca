// Values that a config leaves in files, such as passwords: read when a probe needs them, so that a new one
// counts at once and none is kept. Must never let one into a message.

import type { Env } from "../../env.ts";
import type { ProbeSecret } from "../../model/health_check.ts";
import { OwnFault } from "./attempt.ts";

const SECRET_MAX_BYTES = 4096;

/** The text of the file, without the line break at its end. */
export function readSecret(env: Pick<Env, "files">, secret: ProbeSecret): string {
  if (secret.from === "inline") return secret.text;
  const bytes = readOwnFile(env, secret.path);
  const text = bytes.toString().replace(/\r?\n$/, "");
  if (text === "" || bytes.length > SECRET_MAX_BYTES || /[\u0000-\u001f\u007f]/.test(text)) {
    throw new OwnFault(`${secret.path} does not hold one line of at most ${SECRET_MAX_BYTES} bytes`);
  }
  return text;
}

/** A file of this host's, whose lack is no fault of the backend. */
export function readOwnFile({ files }: Pick<Env, "files">, path: string): Buffer {
  let bytes: Uint8Array | null;
  try {
    bytes = files.read(path);
  } catch (error) {
    throw new OwnFault(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (bytes === null) throw new OwnFault(`there is no file ${path}`);
  return Buffer.from(bytes);
}
