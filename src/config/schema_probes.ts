// The part of the schema that is about the way of health probes. Knows keys, bounds and descriptions;
// what a probe asks is schema.ts's business.

import * as z from "zod";
import { integer } from "./schema_parts.ts";

const U32_MAX = 0xffff_ffff;
/** The tables below are the kernel's own (default, main, local), or have names on many hosts. */
const TABLE_MIN = 256;

export const viaSchema = z.enum(["direct", "tunnel"]).default("direct").meta({
  description: "direct: to the backend's own address. tunnel: to the virtual address on the backend, "
    + "in the headers (or for l2, by the link address) that clients' packets have, since a backend "
    + "may answer on its own address and still not serve the virtual one. Each virtual address of the "
    + "services that use the pool has to answer, at `port` or else at its first TCP service's port "
    + "([docs/health.md](health.md)).",
});

export const probesSchema = z.strictObject({
  mark: integer("Mark (SO_MARK) of the sockets of probes `via: tunnel`; null: made from the "
    + "instance's name.", 1, U32_MAX).nullable().default(null),
  table: integer("Routing table that this mark leads to, and that nobody else uses; null: the "
    + "number of the default mark.", TABLE_MIN, U32_MAX).nullable().default(null),
}).prefault({});
