// Where a QUIC packet says that it belongs: from the first bytes of a datagram to its destination
// connection ID (RFC 8999, 5) and on to the destination that the ID names. Whatever the ID is,
// nothing here depends on the version of QUIC. Pure; knows ids of destinations, and not what they are.
// bpf/quic.h is its twin.

import { hexText } from "./hex.ts";
import type { QuicLbConfig } from "./quic_lb.ts";
import { cidBytes, configIdOf, decodeCid, encodedLength } from "./quic_lb.ts";

/** What connection IDs mean to one service. */
export interface QuicRouting {
  /** By config ID. */
  readonly configs: ReadonlyMap<number, QuicLbConfig>;
  /** Ids of destinations by server ID, in hexadecimal digits. */
  readonly servers: ReadonlyMap<string, number>;
}

/**
 * What became of an ID: routed, or why the packet goes by flow and ring. The names are those of
 * enum quic_outcome.
 */
export type QuicOutcome =
  /** It names a backend that is alive. */
  | "routed"
  /** The datagram is too short to be QUIC, or the ID has not the length that its config asks for. */
  | "no_id"
  /** No config has the number in its first bits; 7 never has one. */
  | "no_config"
  /** Nobody has the server ID: most IDs that clients made up end here. */
  | "no_server"
  /** The backend is not alive. */
  | "server_down";

/** The outcomes in the order of the enum. */
export const QUIC_OUTCOMES: readonly QuicOutcome[] = [
  "routed", "no_id", "no_config", "no_server", "server_down",
];

const LONG_HEADER = 0x80;
/** A first byte, a version, and the length of the destination connection ID. */
const LONG_LENGTH_AT = 5;
const LONG_CID_AT = 6;
const SHORT_CID_AT = 1;
/**
 * From the ID's first byte on, a datagram of QUIC has at least so many: its packets end with a sample
 * of 16 bytes that begins four bytes behind the ID (RFC 9001, 5.4.2).
 */
export const CID_WINDOW_BYTES = 20;
/** No look at a datagram goes further. */
export const DATAGRAM_BYTES_SEEN = LONG_CID_AT + CID_WINDOW_BYTES;

/** What there is to see of a destination connection ID. */
export interface SeenCid {
  /** From its first byte on; what follows it may be in there too. */
  readonly window: Uint8Array;
  /** As a long header says; null: a short header does not say it. */
  readonly length: number | null;
}

/** The destination connection ID of a datagram, or null: it is too short for one. */
export function seeCid(datagram: Uint8Array): SeenCid | null {
  const isLong = (datagram[0] ?? 0) >= LONG_HEADER;
  const at = isLong ? LONG_CID_AT : SHORT_CID_AT;
  if (datagram.length < at + CID_WINDOW_BYTES) return null;
  const length = isLong ? datagram[LONG_LENGTH_AT]! : null;
  return { window: datagram.subarray(at, at + CID_WINDOW_BYTES), length };
}

export interface QuicAnswer {
  readonly outcome: Exclude<QuicOutcome, "server_down">;
  /** Null, too, where nothing could be decoded. */
  readonly config: QuicLbConfig | null;
  /** In hexadecimal digits. */
  readonly serverId: string | null;
  /** Id of the destination. */
  readonly destination: number | null;
}

/** Whom the datagram names. Whether that one is alive is decide()'s business. */
export function readCid(routing: QuicRouting, datagram: Uint8Array): QuicAnswer {
  const nobody = { config: null, serverId: null, destination: null };
  const seen = seeCid(datagram);
  if (seen === null) return { outcome: "no_id", ...nobody };
  const first = seen.window[0]!;
  const config = routing.configs.get(configIdOf(first));
  if (config === undefined) return { outcome: "no_config", ...nobody };
  if (!hasItsLength(config, first, seen.length)) return { outcome: "no_id", ...nobody, config };
  const serverId = hexText(decodeCid(config, seen.window).serverId);
  const destination = routing.servers.get(serverId) ?? null;
  return { outcome: destination === null ? "no_server" : "routed", config, serverId, destination };
}

/** IDs may be longer than the config: servers can append bytes of their own (5.4). */
function hasItsLength(config: QuicLbConfig, first: number, length: number | null): boolean {
  const least = cidBytes(config);
  if (length !== null && length < least) return false;
  if (!config.lengthEncoded) return true;
  const said = encodedLength(first) + 1;
  return length === null ? said >= least : said === length;
}
