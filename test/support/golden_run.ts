// Runs golden packets through a loaded program and says where the outcome differs from what is
// expected: verdict, action and every byte. Knows loading and comparing; knows no test framework,
// so that it runs where there is none (test/old_kernel).

import { Destination, DestinationFlags } from "../../src/dataplane/xdp/abi.gen.ts";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import type { VerdictName } from "../../src/model/decide.ts";
import type { BpfMap } from "../../src/dataplane/xdp/native.ts";
import { BpfWorld } from "./bpf_world.ts";
import { residue } from "./checksums.ts";
import type { Golden, GoldenCase } from "./golden_packets.ts";

const XDP_DROP = 1,
  XDP_PASS = 2,
  XDP_TX = 3,
  XDP_REDIRECT = 4;
const INGRESS = 1;

/** What became of a packet, in a form that two of can be compared. */
export interface Outcome {
  readonly verdicts: readonly string[];
  readonly action: number;
  /** null: nobody looks at the bytes of a packet that is dropped. */
  readonly frame: string | null;
  /** Of tunnels; null: nothing. */
  readonly noted: string | null;
}

export class GoldenRun {
  readonly #golden: Golden;
  readonly #worlds: readonly BpfWorld[];
  readonly #filledFor = new Map<BpfWorld, GoldenCase["orphan"]>();

  /** `object` has the programs of trial.bpf.c, which poison the head-room first. */
  constructor(addon: string, object: string, golden: Golden) {
    this.#golden = golden;
    this.#worlds = [false, true].map(
      (redirect) =>
        new BpfWorld(loadNative(addon), {
          object,
          flowsMax: 1024,
          natFlowsMax: NAT_FLOWS_MAX,
          devices: [INGRESS],
          switches: { transmit_by_redirect: redirect },
        }),
    );
  }

  run(one: GoldenCase, transmitByRedirect: boolean): Outcome {
    const world = this.#worldFor(one.orphan, transmitByRedirect);
    if (one.before !== null) world.run("poisoned", one.before, one.before.length + 64);
    const before = world.verdicts();
    const bringBack = one.takenOut ? takeOut(world, [...this.#golden.table(one.orphan).destinations.keys()]) : null;
    const fillers = one.full ? fill(world.map("nat_flows")) : [];
    const { action, output } = world.run("poisoned", one.frame, one.frame.length + 64);
    const [note = null] = one.verdict === "DROP_TUNNEL_ERROR" ? world.notes() : [];
    for (const key of fillers) world.map("nat_flows").delete(key);
    bringBack?.();
    const counted = [...world.verdicts()].filter(
      ([name, { packets }]) => packets !== before.get(name)!.packets,
    );
    return {
      verdicts: counted.map(([name]) => name),
      action,
      frame: action === XDP_DROP ? null : hex(one.fresh === null ? output! : settled(output!, one.fresh)),
      noted: note?.replace(/^\d+: /, "") ?? null,
    };
  }

  #worldFor(orphan: GoldenCase["orphan"], transmitByRedirect: boolean): BpfWorld {
    const world = this.#worlds[transmitByRedirect ? 1 : 0]!;
    if (this.#filledFor.get(world) !== orphan) {
      world.fill(this.#golden.table(orphan), {
        hop: ({ id }) => this.#golden.hops.get(id)!,
        heartbeatNs: 0n,
        linkAddresses: new Map([[INGRESS, this.#golden.linkAddresses]]),
        ringClass: "small",
      });
      this.#filledFor.set(world, orphan);
    }
    return world;
  }

  close(): void {
    for (const world of this.#worlds) world.close();
  }
}

/** Ends the connections that backends have; what is returned undoes it. */
function takeOut(world: BpfWorld, ids: readonly number[]): () => void {
  const map = world.map("destinations");
  const kept = ids.map((id) => {
    const key = new Uint8Array(4);
    new DataView(key.buffer).setUint32(0, id, true);
    return { key, value: map.lookup(key)! };
  });
  for (const { key, value } of kept) {
    const changed = Uint8Array.from(value);
    new DataView(changed.buffer).setUint32(Destination.offsets.flags, DestinationFlags.DESTINATION_RESETS, true);
    map.update(key, changed, 0);
  }
  return () => { for (const { key, value } of kept) map.update(key, value, 0); };
}

/** Of both directions. */
const NAT_FLOWS_MAX = 512;

/** Flows that nobody has, until no more fit; their keys. */
function fill(flows: BpfMap): Uint8Array[] {
  const { keySize, valueSize } = flows.info();
  const keys: Uint8Array[] = [];
  for (let number = 0; number <= NAT_FLOWS_MAX; number += 1) {
    const key = new Uint8Array(keySize);
    new DataView(key.buffer).setUint32(0, 0xff00_0000 + number);
    try {
      flows.update(key, new Uint8Array(valueSize), 0);
    } catch {
      return keys;
    }
    keys.push(key);
  }
  throw new Error(`${NAT_FLOWS_MAX} entries do not fill the table`);
}

const IDENTIFICATION_OFFSET = 4, SUM_OFFSET = 10, HEADER_BYTES = 20;

/** The frame with 0 for the identification that stands there; as it is, if the sum of its header is wrong. */
function settled(frame: Uint8Array, at: number): Uint8Array {
  const start = at - IDENTIFICATION_OFFSET;
  const changed = Uint8Array.from(frame);
  const header = changed.subarray(start, start + HEADER_BYTES);
  if (residue(header) !== 0) return frame;
  header.fill(0, IDENTIFICATION_OFFSET, IDENTIFICATION_OFFSET + 2);
  header.fill(0, SUM_OFFSET, SUM_OFFSET + 2);
  new DataView(changed.buffer).setUint16(start + SUM_OFFSET, 65_535 - residue(header));
  return changed;
}

/** What has to become of it. */
export function expectedOutcome(one: GoldenCase, transmitByRedirect: boolean): Outcome {
  const action = actionFor(one.verdict, transmitByRedirect);
  return {
    verdicts: [one.verdict],
    action,
    frame: action === XDP_DROP ? null : hex(one.expected),
    noted: one.noted,
  };
}

function actionFor(verdict: VerdictName, transmitByRedirect: boolean): number {
  if (verdict.startsWith("PASS_")) return XDP_PASS;
  if (verdict.startsWith("DROP_")) return XDP_DROP;
  return transmitByRedirect ? XDP_REDIRECT : XDP_TX;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
