// The effective config as JSON: addresses and prefixes as their texts, seed and keys left out. Knows
// the shape of a config and nothing of YAML.

import type { Config } from "../model/config.ts";
import { withoutRegions } from "../model/regions.ts";

/** Whoever knows the seed of the flow hash, or the key of connection IDs, can aim at a backend. */
const HIDDEN = "(hidden)";

export function configView(config: Config): unknown {
  const services = withoutRegions(config.services).map(({ region: _, ...service }) => service);
  return JSON.parse(JSON.stringify({ ...config, services }, (_key, value: unknown) => plain(value)));
}

function plain(value: unknown): unknown {
  if (typeof value === "bigint") return HIDDEN;
  if (typeof value !== "object" || value === null) return value;
  // A key: of all bytes in a config, the others are inside of addresses.
  if (value instanceof Uint8Array) return HIDDEN;
  // Addresses and prefixes carry their canonical text.
  const isAddress = "bytes" in value && "family" in value;
  const isPrefix = "address" in value && "length" in value;
  return (isAddress || isPrefix) && "text" in value ? value.text : value;
}
