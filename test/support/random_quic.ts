// Random QUIC connection IDs: what they mean to a service of a random world, and datagrams that carry
// them, most of them readable, some off by a length, a number or a server. Knows the model's types.

import { encodeCid, quicLbConfig } from "../../src/model/quic_lb.ts";
import type { QuicLbConfig } from "../../src/model/quic_lb.ts";
import type { QuicRouting } from "../../src/model/quic_route.ts";
import { hexBytes, hexText } from "../../src/model/hex.ts";
import type { Draws } from "./random.ts";

export function randomQuicLb(draws: Draws, ids: readonly number[]): QuicRouting {
  const configs = new Map<number, QuicLbConfig>();
  const servers = new Map<string, number>();
  for (let made = draws.between(1, 3); made > 0; made -= 1) {
    const id = draws.below(7);
    const serverIdBytes = draws.between(1, 15);
    const isBlock = draws.chance(0.3) && serverIdBytes <= 12;
    const nonceBytes = isBlock ? 16 - serverIdBytes : draws.between(4, 19 - serverIdBytes);
    configs.set(id, quicLbConfig({
      id, serverIdBytes, nonceBytes, lengthEncoded: draws.chance(0.4),
      key: draws.chance(0.75) ? draws.bytes(16) : null,
    }));
    // Now and then of an id that nobody has.
    for (const one of [...ids, 63]) servers.set(hexText(draws.bytes(serverIdBytes)), one);
  }
  return { configs, servers };
}

/** What a packet for such a service carries. */
export function randomDatagram(draws: Draws, { configs, servers }: QuicRouting): Uint8Array {
  const config = draws.pick([...configs.values()]);
  const known = [...servers.keys()].filter((each) => each.length === config.serverIdBytes * 2);
  const serverId = draws.chance(0.9) ? hexBytes(draws.pick(known)) : draws.bytes(config.serverIdBytes);
  const cid = encodeCid(config, serverId, draws.bytes(config.nonceBytes), draws.below(32));
  if (draws.chance(0.08)) cid[0] = draws.below(256);
  const isLong = draws.chance(0.4);
  const said = cid.length + (draws.chance(0.85) ? 0 : draws.pick([-cid.length, -1, 1, 4]));
  const header = isLong ? [0xc0 | draws.below(64), 0, 0, 0, draws.below(3), said] : [draws.below(128)];
  const rest = draws.chance(0.8) ? 24 : draws.below(24);
  return Uint8Array.of(...header, ...cid, ...draws.bytes(rest));
}
