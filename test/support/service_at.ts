// Where a service of a test is, from the texts that a config would have: "203.0.113.0/28" and "any".

import { parseAddress, parsePrefix, prefixOf } from "../../src/model/address.ts";
import { parsePorts } from "../../src/model/service_address.ts";
import type { ServiceAddress } from "../../src/model/service_address.ts";

export function serviceAt(where: string, port: number | string): ServiceAddress {
  const ports = parsePorts(String(port));
  if (ports === null) throw new RangeError(`${port} is no port`);
  const prefix = parsePrefix(where);
  if (prefix !== null) return { network: prefix, ports };
  const alone = parseAddress(where);
  if (alone === null) throw new RangeError(`${where} is no address`);
  return { network: prefixOf(alone, alone.family === 4 ? 32 : 128), ports };
}
