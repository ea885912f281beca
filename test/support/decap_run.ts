// The decapsulation program, loaded, and what it makes of a frame. Knows its maps, its switches and
// its counters; knows no test framework, so that it runs where there is none (test/old_kernel).

import {
  DECAP_VERDICT_NAMES,
  DecapRodata,
  VerdictCount,
} from "../../src/dataplane/xdp/abi.gen.ts";
import { encodeAddressPrefix } from "../../src/dataplane/xdp/map_values.ts";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import type { BpfMap, BpfObject } from "../../src/dataplane/xdp/native.ts";
import { parseAddress, parsePrefix } from "../../src/model/address.ts";
import { fixedSource } from "../../src/model/tunnel_source.ts";
import { serviceOf } from "../../src/model/service_lookup.ts";
import { parsePacket } from "../../src/model/packet.ts";
import { residuesOf } from "./checksums.ts";
import type { Golden } from "./golden_packets.ts";
import { clampedMss, forwardedByL2, inVlanOf, isAsExpected } from "./rewritten.ts";

/** UDP port of GUE. */
export const GUE_PORT = 6080;
/** Those of the golden packets: two alone, and prefixes. */
export const VIRTUAL_ADDRESSES = [
  "203.0.113.10",
  "fd00::10",
  "198.51.100.0/24",
  "fd01::/64",
];

/** The backend's, to which golden tunnels lead. */
export const LOCAL_ADDRESSES = ["10.0.0.11", "fd10::11"];

export interface DecapOutcome {
  readonly verdict: string;
  readonly action: number;
  readonly output: Uint8Array;
}

export class DecapRun {
  readonly object: BpfObject;

  constructor(addon: string, path: string, switches: Partial<DecapRodata>) {
    this.object = loadNative(addon).BpfObject.open(path);
    const initial = this.object.section(DecapRodata.section)!;
    const settings = { decapChecksSource: false, decapSecondChance: false, decapGuePort: GUE_PORT, ...switches };
    this.object.setSection(DecapRodata.section, DecapRodata.encode(initial, settings));
    this.object.load();
    for (const address of VIRTUAL_ADDRESSES) this.addAddress(address);
    for (const address of LOCAL_ADDRESSES) this.addLocal(address);
  }

  addAddress(address: string): void {
    this.#map("decap_addresses").update(prefixKey(address), new Uint8Array(4), 0);
  }

  removeAddress(address: string): void {
    this.#map("decap_addresses").delete(prefixKey(address));
  }

  /** An address of the host, or a prefix of them: outer destinations. */
  addLocal(prefix: string): void {
    this.#map("decap_local").update(prefixKey(prefix), new Uint8Array(4), 0);
  }

  removeLocal(prefix: string): void {
    this.#map("decap_local").delete(prefixKey(prefix));
  }

  /** A prefix of outer sources to accept. */
  addSource(prefix: string): void {
    this.#map("decap_sources").update(prefixKey(prefix), new Uint8Array(4), 0);
  }

  removeSource(prefix: string): void {
    this.#map("decap_sources").delete(prefixKey(prefix));
  }

  run(frame: Uint8Array): DecapOutcome {
    const before = this.#counts();
    const { action, output } = this.object.testRun("decap", frame, {
      repeat: 1,
      flags: 0,
      context: null,
      outputSizeMax: frame.length,
      batchSize: 0,
    });
    const counted = this.#counts().flatMap((packets, verdict) =>
      new Array<string>(packets - before[verdict]!).fill(DECAP_VERDICT_NAMES[verdict]!),
    );
    if (counted.length !== 1) throw new Error(`decap counted ${counted.join(", ") || "nothing"}`);
    return { verdict: counted[0]!, action, output: output! };
  }

  #counts(): number[] {
    return DECAP_VERDICT_NAMES.slice(0, -1).map((_, verdict) => {
      const values = this.#map("decap_counts").lookup(
        new Uint8Array(Uint32Array.of(verdict).buffer),
      )!;
      let packets = 0;
      for (let at = 0; at < values.length; at += VerdictCount.size) {
        packets += Number(VerdictCount.decode(values.slice(at, at + VerdictCount.size)).packets);
      }
      return packets;
    });
  }

  #map(name: string): BpfMap {
    return this.object.map(name);
  }

  close(): void {
    this.object.close();
  }
}

/** Of an address or a prefix. */
export function prefixKey(text: string): Uint8Array {
  const address = parseAddress(text);
  return encodeAddressPrefix(address === null ? parsePrefix(text)! : fixedSource(address));
}

/** What may be added without a tunnel. */
export const VLAN_TAG_BYTES = 4;

/** Which golden packets it does not undo, or touches although they are not for it. */
export function compareWithGolden(
  decap: DecapRun,
  golden: Golden,
): { compared: number; wrong: string[] } {
  const table = golden.table("keep");
  let compared = 0;
  const wrong: string[] = [];
  for (const { name, verdict, frame, expected } of golden.cases) {
    const packet = parsePacket(frame);
    if (typeof packet === "string") continue;
    if (verdict === "TX_FORWARDED" && expected.length > frame.length + VLAN_TAG_BYTES) {
      const after = decap.run(expected);
      const hop = golden.hops.get(expected[5]!)!;
      const service = serviceOf(table, packet.destination, packet.destinationPort, packet.protocol);
      const inner = clampedMss(frame, packet, service?.config.mssMax ?? null);
      const forwarded = inVlanOf(hop, packet, forwardedByL2(inner.frame, packet, hop));
      const sums = [...forwarded.sums, ...inner.sums.map((at) => at + after.output.length - frame.length)];
      compared += 1;
      if (
        after.verdict !== "DECAP_PASS_STRIPPED" ||
        !isAsExpected(after.output, { frame: forwarded.frame, sums }) ||
        JSON.stringify(residuesOf(after.output)) !== JSON.stringify(residuesOf(frame))
      )
        wrong.push(`${name}: ${after.verdict}, ${hex(after.output)}`);
    }
    if (packet.protocol === 4 || packet.protocol === 41) continue;
    const after = decap.run(frame);
    compared += 1;
    if (after.verdict !== "DECAP_PASS_NOT_TUNNEL" || hex(after.output) !== hex(frame))
      wrong.push(`${name}: ${after.verdict}, ${hex(after.output)}`);
  }
  return { compared, wrong };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
