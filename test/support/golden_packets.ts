// Reads test/golden/packets/packets.json: the world that its packets meet, as a ForwardingTable,
// and the packets. Knows the file's form, which make.py defines; runs nothing.

import { NOTHING_REMEMBERED } from "../../src/model/remember_pace.ts";
import { readFileSync } from "node:fs";
import { parseAddress, parsePrefix } from "../../src/model/address.ts";
import type { Address } from "../../src/model/address.ts";
import { hexBytes } from "../../src/model/hex.ts";
import { quicLbConfig } from "../../src/model/quic_lb.ts";
import type { QuicLbParameters } from "../../src/model/quic_lb.ts";
import type { QuicRouting } from "../../src/model/quic_route.ts";
import { NO_NAT } from "../../src/model/nat.ts";
import type { Forwarding, OrphanAction } from "../../src/model/config.ts";
import type { VerdictName } from "../../src/model/decide.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";
import type { Destination, ForwardingTable, Service } from "../../src/model/table.ts";
import type { Hop } from "./bpf_world.ts";
import { serviceAt } from "./service_at.ts";
import { SETTLED } from "../../src/model/slot_states.ts";

/** As make.py has it. */
const NAT = { ...NO_NAT, ports: { first: 10_000, count: 22_768 } };

export interface GoldenCase {
  readonly name: string;
  readonly verdict: VerdictName;
  readonly orphan: OrphanAction;
  readonly frame: Uint8Array;
  /** Goes through the program first, whatever becomes of it; null: nothing does. */
  readonly before: Uint8Array | null;
  /** Between `before` and this one, all backends are taken out. */
  readonly takenOut: boolean;
  /** No translated flow fits any more. */
  readonly full: boolean;
  /** As it has to look afterwards. */
  readonly expected: Uint8Array;
  /** Where in `expected` an identification stands that is new each time, 0 standing for it; null: nowhere. */
  readonly fresh: number | null;
  /** What is noted of tunnels: "mtu 1400", "unreachable 3/1"; null: nothing. */
  readonly noted: string | null;
}

export interface Golden {
  readonly cases: readonly GoldenCase[];
  readonly hops: ReadonlyMap<number, Hop>;
  /** Of the interface that packets come by, in hexadecimal. */
  readonly linkAddresses: ReadonlySet<string>;
  readonly table: (orphan: OrphanAction) => ForwardingTable;
}

interface Squeezed {
  readonly hex: string;
  readonly zeros: number;
}

interface File {
  readonly linkAddresses: readonly string[];
  readonly destinations: readonly {
    readonly id: number;
    readonly forwarding: Forwarding;
    /** Otherwise no slot of a ring leads to it. */
    readonly alive: boolean;
    /** The backend's own; null: the packet's. */
    readonly port: number | null;
    readonly gueVariant: 0 | 1;
    readonly resolved: boolean;
    readonly local: boolean;
    readonly mtu: number;
    readonly vlan: number;
    readonly address: string;
    readonly tunnelSource: string;
    readonly destinationMac: string;
    readonly sourceMac: string;
  }[];
  readonly services: readonly {
    readonly name: string;
    readonly address: string;
    readonly port: number | string;
    readonly protocol: "tcp" | "udp";
    readonly destination: number;
    /** Server IDs and keys in hexadecimal digits. */
    readonly quicLb?: {
      readonly configs: readonly (Omit<QuicLbParameters, "key"> & { readonly key: string | null })[];
      readonly servers: Readonly<Record<string, number>>;
    };
    /** Of one without a destination. */
    readonly forwarding?: Forwarding;
    readonly deny: readonly string[];
    readonly mssMax: number | null;
  }[];
  readonly cases: readonly {
    readonly name: string;
    readonly verdict: VerdictName;
    readonly orphan: OrphanAction;
    readonly frame: Squeezed;
    readonly expected: Squeezed | null;
    readonly before?: Squeezed;
    readonly noted?: string;
    readonly fresh?: number;
    readonly full?: true;
    readonly takenOut?: true;
  }[];
}

export function readGolden(): Golden {
  const file = JSON.parse(
    readFileSync(new URL("../golden/packets/packets.json", import.meta.url), "utf8"),
  ) as File;
  const destinations = new Map(file.destinations.map((one) => [one.id, destinationOf(one)]));
  const services = file.services.map((one, index) =>
    serviceOf(one, index, destinations.get(one.destination)));
  return {
    linkAddresses: new Set(file.linkAddresses.map((text) => text.replaceAll(":", ""))),
    cases: file.cases.map(({ name, verdict, orphan, frame, expected, before, noted, fresh, full, takenOut }) => ({
      full: full === true,
      takenOut: takenOut === true,
      name,
      verdict,
      orphan,
      frame: expand(frame),
      before: before === undefined ? null : expand(before),
      expected: expand(expected ?? frame),
      noted: noted ?? null,
      fresh: fresh ?? null,
    })),
    hops: new Map(
      file.destinations.map((one) => [
        one.id,
        {
          destinationMac: macOf(one.destinationMac),
          sourceMac: macOf(one.sourceMac),
          ifindex: 1,
          mtu: one.mtu,
          vlan: one.vlan,
          resolved: one.resolved,
          local: one.local,
          tunnelSource: addressOf(one.tunnelSource).bytes,
          tunnelSourceMask: 0,
        },
      ]),
    ),
    table: (action) => ({
      generation: 1,
      instance: "golden",
      services,
      destinations,
      orphan: { afterMs: 1, action },
      icmpErrorsPerSecond: 1, pathMtuAgeMs: 600_000, nat: NAT, affinitiesMax: 0,
      remember: NOTHING_REMEMBERED,
      ledger: EMPTY_LEDGER,
      warnings: [],
    }),
  };
}

function destinationOf(one: File["destinations"][number]): Destination {
  return {
    id: one.id,
    generation: 1,
    identity: BigInt(one.id),
    name: `pool/${one.id}`,
    pool: "pool",
    backend: `${one.id}`,
    address: addressOf(one.address),
    port: one.port,
    forwarding: one.forwarding,
    gue: one.forwarding === "gue" ? { port: 6080, variant: one.gueVariant } : null,
    mac: null,
    alive: one.alive,
    admission: 65536,
    weight: 1,
    resets: false,
    weightProvenance: { source: "config" },
    stateProvenance: { source: "config" },
  };
}

function serviceOf(
  one: File["services"][number], index: number, destination: Destination | undefined,
): Service {
  const configured = new Uint16Array(7).fill(one.destination);
  const slots = destination?.alive === false ? new Uint16Array(7) : configured;
  return {
    index,
    name: one.name,
    hashSeed: 1n,
    ring: { key: "", size: 7, slots, configured },
    destinations: [one.destination, ...Object.values(one.quicLb?.servers ?? {})],
    states: SETTLED,
    failedOpen: false, affinity: null, picking: null, split: null, regions: null, rememberedSinceNs: 0n,
    quicLb: one.quicLb === undefined ? null : routingOf(one.quicLb),
    config: {
      name: one.name,
      ...serviceAt(one.address, one.port),
      protocol: one.protocol,
      forwarding: one.forwarding ?? destination?.forwarding ?? "l2",
      gue: { port: 6080, variant: 0 },
      algorithm: "maglev", loadFactorPercent: 125, panicBelow: 0,
      hash: "5-tuple",
      sourcePrefix: { ipv4: 32, ipv6: 128 },
      ringSize: 7,
      tracking: "none",
      flowIdleMs: 1000,
      changeWindowMs: 1000, secondChance: false,
      affinityGroup: null, affinityTimeoutMs: null,
      mssMax: one.mssMax,
      quicLb: null,
      failOpen: false,
      vip: { assign: "none" },
      pool: "pool", split: null, geo: null, region: null,
      policy: { allow: [], deny: one.deny.map((text) => parsePrefix(text)!) },
      proxy: {
        connectTimeoutMs: 1,
        connectRetries: 0,
        idleTimeoutMs: 0,
        udpIdleTimeoutMs: 1,
        connectionsMax: 1,
        sessionsMax: 1,
        proxyProtocol: "none",
      },
    },
  };
}

function routingOf({ configs, servers }: NonNullable<File["services"][number]["quicLb"]>): QuicRouting {
  const ready = configs.map((each) => quicLbConfig({ ...each, key: each.key === null ? null : hexBytes(each.key) }));
  return { configs: new Map(ready.map((each) => [each.id, each])), servers: new Map(Object.entries(servers)) };
}

function addressOf(text: string): Address {
  const address = parseAddress(text);
  if (address === null) throw new Error(`${text} is no address`);
  return address;
}

function macOf(text: string): Uint8Array {
  return Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
}

function expand({ hex, zeros }: Squeezed): Uint8Array {
  const start = Buffer.from(hex, "hex");
  const bytes = new Uint8Array(start.length + zeros);
  bytes.set(start);
  return bytes;
}
