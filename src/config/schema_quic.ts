// The part of the config file that is about QUIC connection IDs: which of them a service can read,
// and which server IDs a backend has. Bounds are those of draft-ietf-quic-load-balancers-21.

import * as z from "zod";
import {
  QUIC_CONFIG_IDS, QUIC_NONCE_BYTES_MAX, QUIC_NONCE_BYTES_MIN, QUIC_SERVER_ID_BYTES_MAX,
  QUIC_SERVER_ID_BYTES_MIN,
} from "../model/quic_lb.ts";
import {
  checkQuicKey, checkServerId, QUIC_KEY_PATTERN, SERVER_ID_PATTERN,
} from "./formats_quic.ts";
import { integer, text } from "./schema_parts.ts";

export const quicConfigSchema = z.strictObject({
  id: integer("What the first three bits of a connection ID say.", 0, QUIC_CONFIG_IDS - 1),
  serverIdBytes: integer(
    "Length of the server ID.", QUIC_SERVER_ID_BYTES_MIN, QUIC_SERVER_ID_BYTES_MAX,
  ),
  nonceBytes: integer(
    "Length of the nonce; with the server ID at most 19 bytes. 16 together are decrypted in one "
      + "pass of AES, others in three or four.", QUIC_NONCE_BYTES_MIN, QUIC_NONCE_BYTES_MAX,
  ),
  lengthEncoded: z.boolean().default(false).meta({
    description: "Whether every server says the ID's length in the low five bits of its first "
      + "byte. An ID that says another one is then not routed by.",
  }),
  key: text(checkQuicKey, {
    title: "a key", pattern: QUIC_KEY_PATTERN, examples: ["file:/etc/pointsman/quic.key"],
    writeOnly: true,
    description: "Key of AES-128, shared with the servers: 32 hexadecimal digits in quotes, or "
      + "file:PATH; null: the server ID can be read by anybody.",
  }).nullable().default(null),
}).meta({ id: "QUIC-LB-config", title: "a quic-lb-config" });

export const quicLbSchema = z.strictObject({
  configs: z.array(quicConfigSchema).min(1).meta({
    title: "a list of quic-lb-configs",
    description: "Up to seven at once: a new one is added here before servers use it, and the old "
      + "one stays until no connection has its IDs.",
  }),
}).nullable().default(null).meta({
  description: "Sends QUIC packets where their connection ID says, wherever they come from "
    + "(draft-ietf-quic-load-balancers-21). Packets whose ID says nothing go by flow and ring. "
    + "null: connection IDs are not looked at.",
});

export const serverIdsSchema = z.array(text(checkServerId, {
  title: "a server ID", pattern: SERVER_ID_PATTERN, examples: ["c4605e"],
})).default([]).meta({
  title: "a list of server IDs",
  description: "What `quicLb` of a service knows the backend by, in hexadecimal digits: one of "
    + "the length of each of its configs, and none that another backend of the pool has.",
});

export type RawQuicLb = z.output<typeof quicLbSchema>;
