// Takes over a plane that another version pinned: a complete plane of this version is made beside it, with all that its
// maps hold, and gets the interfaces' links, the news of the last moment, and then the name. Knows the order; how an
// entry is converted is conversion.ts's business, how a plane is adopted core.ts's.

import type { Env } from "../../env.ts";
import { ABI_FINGERPRINT, POINTSMAN_MAPS, RegionBlock } from "./abi.gen.ts";
import { addMissing, isMapOfMaps, LEARNED, raiseCounts } from "./carry.ts";
import { EarlierPlane, mismatch, pinLayout } from "./earlier_plane.ts";
import type { Abi } from "./layout.ts";
import type { MapName, PlaneMaps } from "./maps.ts";
import type { BpfMap, Native } from "./native.ts";
import { moveLinks, takePlace, type Pins } from "./pins.ts";
import { hex, loadProgram, roomIn, type ProgramSource } from "./program.ts";
import { RING_CLASS_SLOTS, type RingClass } from "./ring_class.ts";
import type { Capacities } from "./steps.ts";

/** By their names, so that one that is new is not forgotten. */
const COUNTS: readonly MapName[] = POINTSMAN_MAPS.filter((name) => /_(?:counts|traffic)$/.test(name));
/** A plane can begin without what these hold; without the others it would send packets elsewhere, or nowhere. */
const DISPENSABLE: ReadonlySet<MapName> = new Set([
  ...Object.keys(LEARNED) as (keyof typeof LEARNED)[], ...COUNTS, "service_pace", "remember_pace", "icmp_pace",
  "outer_identifications", "tunnel_ends",
  "pick_states", "destination_flows", "service_flows",
]);

export interface UpgradeParts {
  readonly native: Native;
  readonly env: Env;
  readonly source: ProgramSource;
  readonly abi: Abi;
  /** The plane, and those that were to take its place when somebody died: packets may use any of them. */
  readonly current: Pins;
  readonly beside: readonly Pins[];
  readonly target: Pins;
}

export class Upgrade {
  readonly #parts: UpgradeParts;
  readonly #base: EarlierPlane;
  readonly #others: EarlierPlane[] = [];
  /** What each interface ran before, by its name. */
  readonly #before: ReadonlyMap<string, number>;
  readonly #sinceNs: bigint;
  /** The maps that packets are about to use, or use already. */
  #next: PlaneMaps | null = null;

  /** Throws ABI_MISMATCH for a plane that cannot be read. */
  constructor(parts: UpgradeParts) {
    const { native, env, abi, current, beside } = parts;
    this.#parts = parts;
    const open = (pins: Pins, which: "maps" | "new maps"): EarlierPlane =>
      new EarlierPlane(native, pins, { ours: abi, which, onBatch: () => { this.#beat(); } });
    this.#base = open(current, "maps");
    try {
      this.#others.push(open(current, "new maps"));
      for (const pins of beside) this.#others.push(open(pins, "maps"), open(pins, "new maps"));
      this.#refuseWhatIsLost();
      this.#before = programsOf(native, current);
      this.#sinceNs = env.clock.monotonicNs();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The plane that is made; adopting it is what swaps. */
  get target(): Pins { return this.#parts.target; }

  /** Where the links are until finish(). */
  get linkPins(): Pins { return this.#parts.current; }

  /** Sizes of the maps that there are; Infinity where there is none. */
  room(): Capacities {
    return roomIn(this.#base.maps);
  }

  #refuseWhatIsLost(): void {
    const { pins, fingerprint } = this.#base;
    for (const name of POINTSMAN_MAPS) {
      const conversion = this.#base.conversion(name);
      if (conversion.kind === "impossible" && !isMapOfMaps(name) && !DISPENSABLE.has(name)) {
        throw mismatch(pins, fingerprint, `its map ${name} cannot be read: ${conversion.reason}`);
      }
    }
  }

  /** A plane of this version with everything that the maps hold. Nothing is attached to it. */
  prepare(capacities: Capacities): void {
    const { source, env, target } = this.#parts;
    this.#beat();
    const program = loadProgram(source, {
      features: new Set(), capacities, transmitByRedirect: false, reuse: {}, mapsOnly: true,
    });
    try {
      this.#fill(program.maps);
      program.maps.settings.writeFingerprint();
      program.maps.settings.writeHeartbeat(env.clock.monotonicNs());
      this.#pin(program.maps);
    } catch (error) {
      if (env.files.exists(target.directory)) target.removeAll();
      throw error;
    } finally {
      program.object.close();
    }
  }

  #fill(to: PlaneMaps): void {
    for (const name of POINTSMAN_MAPS) {
      if (!isMapOfMaps(name)) this.#base.copyInto(name, to.maps[name]);
    }
    for (const name of this.#base.dropped.keys()) {
      if (!DISPENSABLE.has(name)) throw this.#misfit(name);
    }
    this.#catchUpFrom(this.#others, to, 0n);
  }

  #misfit(name: MapName): Error {
    const { pins, fingerprint, dropped } = this.#base;
    return mismatch(pins, fingerprint, `${dropped.get(name)!} entries of its map ${name} do not fit this one's`);
  }

  /** `settings` last: from then on it is a plane. */
  #pin(plane: PlaneMaps): void {
    const { native, target, abi } = this.#parts;
    target.create();
    for (const { ringClass, id } of this.#base.pins.rings()) {
      const ring = native.BpfMap.open(this.#base.pins.ringPath(ringClass, id));
      try {
        this.#pinRing(plane, ring, { ringClass, id });
      } finally {
        ring.close();
      }
    }
    for (const id of this.#base.pins.regions()) this.#pinRegions(native.BpfMap.open(this.#base.pins.regionsPath(id)), id);
    for (const name of POINTSMAN_MAPS) if (name !== "settings") plane.maps[name].pin(target.mapPath(name));
    pinLayout(native, target, abi);
    plane.maps.settings.pin(target.mapPath("settings"));
  }

  /** Shared, where it has the size of its class: a published ring is never written. */
  #pinRing(plane: PlaneMaps, ring: BpfMap, { ringClass, id }: { ringClass: RingClass; id: number }): void {
    const path = this.#parts.target.ringPath(ringClass, id);
    if (ring.info().valueSize === RING_CLASS_SLOTS[ringClass] * 2) {
      ring.pin(path);
      return;
    }
    const copy = plane.createRing(ringClass);
    try {
      const [from, to] = [ring, copy].map((map) => new Uint16Array(map.mmap())) as [Uint16Array, Uint16Array];
      if (from.subarray(to.length).some((word) => word !== 0)) {
        const { pins, fingerprint } = this.#base;
        throw mismatch(pins, fingerprint, `its ring ${ringClass} ${id} has more slots than this one's`);
      }
      to.set(from.subarray(0, to.length));
      copy.pin(path);
    } finally {
      copy.close();
    }
  }

  /** Shared: a table that is whole is never written. */
  #pinRegions(table: BpfMap, id: number): void {
    try {
      if (table.info().valueSize !== RegionBlock.size) {
        const { pins, fingerprint } = this.#base;
        throw mismatch(pins, fingerprint, `its regions ${id} have blocks of another size`);
      }
      table.pin(this.#parts.target.regionsPath(id));
    } finally {
      table.close();
    }
  }

  /** Nobody is orphaned by large maps. */
  #beat(): void {
    const nowNs = this.#parts.env.clock.monotonicNs();
    for (const plane of [this.#base, ...this.#others]) plane.writeHeartbeat(nowNs);
    this.#next?.settings.writeHeartbeat(nowNs);
  }

  /** Right before packets meet the new maps: what the old ones have learned and counted since they were copied. */
  beforeSwap(to: PlaneMaps): void {
    this.#next = to;
    this.#beat();
    for (const name of COUNTS) {
      this.#base.copyInto(name, to.maps[name]);
      for (const other of this.#others) raiseCounts(other.entries(name), to.maps[name]);
    }
    this.#catchUpFrom([this.#base, ...this.#others], to, this.#sinceNs);
  }

  /** When the last packet has left the old programs. */
  afterSwap(to: PlaneMaps): void {
    this.#catchUpFrom([this.#base, ...this.#others], to, this.#sinceNs);
  }

  #catchUpFrom(planes: readonly EarlierPlane[], to: PlaneMaps, sinceNs: bigint): void {
    for (const plane of planes) {
      for (const name of Object.keys(LEARNED) as (keyof typeof LEARNED)[]) {
        const timeAt = LEARNED[name];
        addMissing(plane.entries(name, { timeAt, sinceNs }), to.maps[name], timeAt, sinceNs);
      }
    }
  }

  /** The old plane goes, and this one gets its name. */
  finish(): void {
    const { env, current, beside, target } = this.#parts;
    for (const pins of beside) pins.removeAll();
    moveLinks(env, current, target);
    takePlace(env, current, target);
    this.#tell();
  }

  #tell(): void {
    const { log } = this.#parts.env;
    const { fingerprint, abi } = this.#base;
    const of = (kind: string): MapName[] => POINTSMAN_MAPS.filter((name) => this.#base.conversion(name).kind === kind);
    const unknown = abi.maps.map(({ name }) => name).filter((name) => !POINTSMAN_MAPS.some((each) => each === name));
    log.info({ found: hex(fingerprint), expected: hex(ABI_FINGERPRINT), converted: of("converted"), begun: of("absent"), left: unknown },
      "took over the plane of another version");
    const reasons = of("impossible").flatMap((name) => {
      const conversion = this.#base.conversion(name);
      return conversion.kind === "impossible" && DISPENSABLE.has(name) ? [`${name}: ${conversion.reason}`] : [];
    });
    const dropped = [...this.#base.dropped].map(([name, count]) => `${name}: ${count} entries do not fit`);
    if (reasons.length + dropped.length > 0) {
      log.warn({ lost: [...reasons, ...dropped] }, "the plane of another version had things that cannot be taken over");
    }
  }

  /** After a failure: without a trace, unless some interface has been swapped already; then the next start reads both. */
  giveUp(): void {
    const { native, env, current, target } = this.#parts;
    if (!env.files.exists(target.directory)) return;
    const now = programsOf(native, current);
    if ([...this.#before].every(([name, id]) => now.get(name) === id)) target.removeAll();
  }

  /** What the maps of another version hold may be nothing that this one has a word for. */
  failureFrom(error: unknown): unknown {
    const { pins, fingerprint } = this.#base;
    return error instanceof RangeError ? mismatch(pins, fingerprint, error.message) : error;
  }

  close(): void {
    for (const plane of [this.#base, ...this.#others]) plane.close();
  }
}

function programsOf(native: Native, pins: Pins): Map<string, number> {
  return new Map(pins.links().map((name) => {
    const link = native.XdpLink.open(pins.linkPath(name));
    try {
      return [name, link.info().programId];
    } finally {
      link.close();
    }
  }));
}
