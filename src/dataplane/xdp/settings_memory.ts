// The settings of a plane, each field read and written by one aligned load or store, and the addresses
// that stand beside them. Knows their order where several belong together.

import type { OrphanAction } from "../../model/config.ts";
import type { NatTable } from "../../model/nat.ts";
import { ABI_FINGERPRINT, AddressKey, Settings } from "./abi.gen.ts";
import { encodeU32, orphanAction, orphanNumber } from "./map_values.ts";
import { natPortsWord, natSourceElements, natTableOf, natTimes } from "./nat_values.ts";
import type { BpfMap } from "./native.ts";

const ANY = 0;

export class SettingsMemory {
  readonly #words: BigUint64Array;
  readonly #natSources: BpfMap;

  /** Detached when the maps are closed. */
  constructor(maps: { readonly settings: BpfMap; readonly nat_sources: BpfMap }) {
    this.#words = new BigUint64Array(maps.settings.mmap());
    this.#natSources = maps.nat_sources;
  }

  readFingerprint(): bigint {
    return this.#read("abiFingerprint");
  }

  writeFingerprint(): void {
    this.#write("abiFingerprint", ABI_FINGERPRINT);
  }

  writeHeartbeat(nowNs: bigint): void {
    this.#write("heartbeatNs", nowNs);
  }

  readOrphan(): { afterNs: bigint; action: OrphanAction } {
    return { afterNs: this.#read("orphanAfterNs"), action: orphanAction(this.#read("orphanAction")) };
  }

  /** Between the stores nobody is orphaned. */
  writeOrphan(afterNs: bigint, action: OrphanAction): void {
    this.#write("orphanAction", orphanNumber("keep"));
    this.#write("orphanAfterNs", afterNs);
    this.#write("orphanAction", orphanNumber(action));
  }

  readIcmpInterval(): bigint {
    return this.#read("icmpIntervalNs");
  }

  writeIcmpInterval(intervalNs: bigint): void {
    this.#write("icmpIntervalNs", intervalNs);
  }

  /** Sources first: those that no port count leads to are not looked at. */
  writeNat(nat: NatTable): void {
    for (const { index, address } of natSourceElements(nat)) {
      this.#natSources.update(encodeU32(index), AddressKey.encode({ address }), ANY);
    }
    for (const [field, ns] of natTimes(nat.timeouts)) this.#write(field, ns);
    this.#write("natPorts", natPortsWord(nat));
  }

  /** Null: it was never written. */
  readNat(flowsMax: number): NatTable | null {
    return natTableOf({
      ports: this.#read("natPorts"), flowsMax,
      time: (field) => this.#read(field),
      source: (index) => AddressKey.decode(this.#natSources.lookup(encodeU32(index))!).address,
    });
  }

  #read(field: keyof typeof Settings.offsets): bigint {
    return Atomics.load(this.#words, Settings.offsets[field] / 8);
  }

  #write(field: keyof typeof Settings.offsets, value: bigint): void {
    Atomics.store(this.#words, Settings.offsets[field] / 8, value);
  }
}
