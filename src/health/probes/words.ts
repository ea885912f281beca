// How what a server has said is told to people: short, on one line, and without characters that a terminal
// would obey. Must never know which server.

const TOLD_MAX = 120;

/** The start of it, in quotes only where it is empty. */
export function told(said: string | Uint8Array): string {
  const text = typeof said === "string" ? said : Buffer.from(said).toString("latin1");
  const line = text.trim().replace(/[^\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd]/g, "·");
  if (line === "") return '""';
  return line.length <= TOLD_MAX ? line : `${line.slice(0, TOLD_MAX)}…`;
}

/** Bytes of a protocol that is not for people: in hexadecimal digits. */
export function toldHex(said: Uint8Array): string {
  const digits = Buffer.from(said.subarray(0, 32)).toString("hex");
  return said.length > 32 ? `${digits}…` : digits;
}

/** Before it is cut: half a secret is one as well. A server may have been read as Latin-1. */
export function withoutSecrets(said: string, secrets: readonly string[]): string {
  return secrets.flatMap((secret) => [secret, Buffer.from(secret).toString("latin1")])
    .reduce((text, secret) => text.replaceAll(secret, "…"), said);
}
