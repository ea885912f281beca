// What a probe makes of the certificate that it was shown: whether it is trusted, how long it is valid, and
// the words for either. Knows Node's and OpenSSL's names for what is wrong; must never know a protocol.

import type { DetailedPeerCertificate, TLSSocket } from "node:tls";
import type { ProbeTls } from "../../model/health_check.ts";
import type { Attempt, Verdict } from "./attempt.ts";
import { codeOf, failure } from "./attempt.ts";

const DAY_MS = 86_400_000;
/** More issuers than this come with no certificate. */
const CHAIN_MAX = 16;

const UNTRUSTED: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "the certificate has expired",
  CERT_NOT_YET_VALID: "the certificate is not valid yet",
  CERT_REVOKED: "the certificate is revoked",
  DEPTH_ZERO_SELF_SIGNED_CERT: "the certificate is self-signed",
  SELF_SIGNED_CERT_IN_CHAIN: "the certificate leads to an issuer that is not trusted",
  UNABLE_TO_GET_ISSUER_CERT: "the certificate's issuer is not known",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "the certificate's issuer is not known",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "the certificate's issuer is not known",
  ERR_TLS_CERT_ALTNAME_INVALID: "the certificate is for another name",
};

/** Notes how long it is valid. A text says why the probe has failed. */
export function lookAtCertificate(
  stream: TLSSocket, tls: ProbeTls & { readonly host: string | null }, attempt: Attempt, nowMs: number,
): string | null {
  const shown = stream.getPeerCertificate(true);
  const endsAtMs = earliestEnd(shown);
  const daysLeft = endsAtMs === null ? Infinity : (endsAtMs - nowMs) / DAY_MS;
  if (endsAtMs !== null) {
    attempt.certificate = { endsAtMs, isDue: tls.warnDays !== null && daysLeft < tls.warnDays };
  }
  const said = stream.authorizationError as Error | string | null | undefined;
  if (tls.verify && !stream.authorized) {
    const code = said instanceof Error ? codeOf(said) : said ?? "";
    const words = UNTRUSTED[code] ?? "the certificate does not verify";
    const names = code === "ERR_TLS_CERT_ALTNAME_INVALID" ? ` (${namesIn(shown)})` : "";
    return `${words}${names}${code === "" ? "" : ` (${code})`}`;
  }
  if (tls.failDays === null || daysLeft >= tls.failDays) return null;
  return describeEnd(endsAtMs ?? nowMs, nowMs);
}

/** "the certificate ends on 2026-12-04, in 5 days" */
export function describeEnd(endsAtMs: number, nowMs: number): string {
  const day = new Date(endsAtMs).toISOString().slice(0, 10);
  const days = Math.floor(Math.abs(endsAtMs - nowMs) / DAY_MS);
  const count = `${days} day${days === 1 ? "" : "s"}`;
  return endsAtMs < nowMs ? `the certificate ended on ${day}, ${count} ago`
    : `the certificate ends on ${day}, in ${count}`;
}

/** Of errors of a handshake: OpenSSL's own words, without its places. Null for others. */
export function describeUntrusted(error: Error): Verdict | null {
  const code = codeOf(error);
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG") {
    return failure("not a TLS server");
  }
  if (!code.startsWith("ERR_SSL_")) return null;
  const said = "reason" in error && typeof error.reason === "string" ? error.reason : error.message;
  return failure(`TLS handshake failed: ${said} (${code})`);
}

/** Of the certificate and of the issuers' that came with it; not of a root, which the trust store has. */
function earliestEnd(shown: DetailedPeerCertificate | null): number | null {
  let earliest: number | null = null;
  let each: DetailedPeerCertificate | undefined = shown ?? undefined;
  for (let depth = 0; depth < CHAIN_MAX && each !== undefined; depth += 1) {
    const issuer = each.issuerCertificate as DetailedPeerCertificate | undefined;
    const isRoot = issuer === undefined || issuer.fingerprint256 === each.fingerprint256;
    const endsAtMs = Date.parse(each.valid_to);
    if ((depth === 0 || !isRoot) && Number.isFinite(endsAtMs)) earliest = Math.min(earliest ?? endsAtMs, endsAtMs);
    if (isRoot) break;
    each = issuer;
  }
  return earliest;
}

const NAMES_TOLD_MAX = 200;

function namesIn({ subjectaltname, subject }: DetailedPeerCertificate): string {
  return printable(subjectaltname ?? String(subject.CN)).slice(0, NAMES_TOLD_MAX);
}

function printable(text: string): string {
  return text.replace(/[^ -~]/g, "?");
}
