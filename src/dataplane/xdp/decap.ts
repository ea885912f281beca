// The backend's end of a tunnel: loads the decapsulation program, tells it which addresses it unwraps
// for, and attaches it. Knows the addon and the program's maps; knows no service and no supervisor.

import { join } from "node:path";
import type { Env } from "../../env.ts";
import { Failure } from "../../errors.ts";
import type { Prefix } from "../../model/address.ts";
import { DECAP_VERDICT_NAMES, DecapRodata, VerdictCount } from "./abi.gen.ts";
import { encodeAddressPrefix } from "./map_values.ts";
import type { BpfMap, BpfObject, Native, XdpLink } from "./native.ts";
import { openRequests } from "./netlink/requests.ts";
import { followOwnAddresses } from "./own_addresses.ts";

/** XDP_FLAGS_DRV_MODE and XDP_FLAGS_SKB_MODE of linux/if_link.h. */
const MODES = { native: 4, generic: 2 } as const;
const ENTRIES_MAX = 1024;
const ANY = 0;

export interface DecapOptions {
  readonly interface: string;
  readonly mode: "auto" | "native" | "generic";
  /** Inner destinations to unwrap for. */
  readonly addresses: readonly Prefix[];
  /** Outer destinations to unwrap for; null: the addresses that this host has, whenever it has them. */
  readonly local: readonly Prefix[] | null;
  /** UDP destination port of GUE. */
  readonly guePort: number;
  /** Outer sources to accept; empty: any. */
  readonly sources: readonly Prefix[];
  /** Whether packets without a connection here go on to the alternates that `sources` name. */
  readonly secondChance: boolean;
}

export interface Decap {
  readonly mode: "native" | "generic";
  /** Packets per decap verdict since the start. */
  counts(): ReadonlyMap<string, bigint>;
  /** Takes the program off the interface. */
  close(): void;
}

/** Attaches. Throws DEVICE_MISSING, MAP_FULL, XDP_UNAVAILABLE, PERMISSION_DENIED. */
export function openDecap(native: Native, env: Pick<Env, "clock" | "log" | "root">, options: DecapOptions): Decap {
  const ifindex = native.interfaceIndex(options.interface);
  if (ifindex === 0) {
    throw new Failure(
      "DEVICE_MISSING",
      { name: options.interface },
      `there is no interface ${options.interface} on this host`,
    );
  }
  for (const [map, list] of [
    ["decap_addresses", options.addresses],
    ["decap_local", options.local ?? []],
    ["decap_sources", options.sources],
  ] as const) {
    if (list.length > ENTRIES_MAX)
      throw new Failure(
        "MAP_FULL",
        { map, entriesMax: ENTRIES_MAX },
        `${map} takes ${ENTRIES_MAX} entries, not ${list.length}`,
      );
  }
  const path = join(env.root, "build/bpf/decap.bpf.o");
  const object = native.BpfObject.open(path);
  let unfollow = (): void => undefined;
  try {
    const initial = object.section(DecapRodata.section) ?? new Uint8Array(DecapRodata.size);
    object.setSection(
      DecapRodata.section,
      DecapRodata.encode(initial, {
        decapChecksSource: options.sources.length > 0, decapGuePort: options.guePort,
        decapSecondChance: options.secondChance, decapIfindex: ifindex,
        decapTransmitsByRedirect: options.secondChance && isVeth(native, ifindex),
      }),
    );
    object.load();
    fill(object.map("decap_addresses"), options.addresses.map(encodeAddressPrefix));
    fill(object.map("decap_sources"), options.sources.map(encodeAddressPrefix));
    if (options.local === null) unfollow = followOwnAddresses(native, object.map("decap_local"), env);
    else fill(object.map("decap_local"), options.local.map(encodeAddressPrefix));
    const { link, mode } = attach(native, object, ifindex, options);
    return {
      mode,
      counts: () => readCounts(object.map("decap_counts")),
      close: () => {
        unfollow();
        link.detach();
        link.close();
        object.close();
      },
    };
  } catch (error) {
    unfollow();
    object.close();
    throw error;
  }
}

/** A veth's peer takes redirected frames, and transmitted ones only with a program of its own. */
function isVeth(native: Native, ifindex: number): boolean {
  const requests = openRequests(native);
  try {
    return requests.links().some((link) => link.ifindex === ifindex && link.kind === "veth");
  } finally {
    requests.close();
  }
}

function fill(map: BpfMap, keys: readonly Uint8Array[]): void {
  const flags = new Uint8Array(4);
  for (const key of keys) map.update(key, flags, ANY);
}

function attach(
  native: Native,
  object: BpfObject,
  ifindex: number,
  options: DecapOptions,
): { link: XdpLink; mode: "native" | "generic" } {
  const tried = options.mode === "auto" ? (["native", "generic"] as const) : [options.mode];
  const reasons: string[] = [];
  for (const mode of tried) {
    try {
      return { link: native.XdpLink.attach(object, "decap", ifindex, MODES[mode]), mode };
    } catch (error) {
      reasons.push(`${mode}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new Failure(
    "XDP_UNAVAILABLE",
    { interface: options.interface },
    `XDP cannot be attached to ${options.interface}: ${reasons.join("; ")}`,
  );
}

function readCounts(map: BpfMap): Map<string, bigint> {
  const key = new Uint8Array(4);
  const counts = new Map<string, bigint>();
  DECAP_VERDICT_NAMES.forEach((name, index) => {
    new DataView(key.buffer).setUint32(0, index, true);
    const values = map.lookup(key);
    if (values === null) return;
    let packets = 0n;
    for (let at = 0; at < values.length; at += VerdictCount.size) {
      packets += VerdictCount.decode(values.subarray(at, at + VerdictCount.size)).packets;
    }
    counts.set(name, packets);
  });
  return counts;
}
