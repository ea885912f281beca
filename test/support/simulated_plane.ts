// A data plane that forwards nothing: it keeps the tables it was given, and fails or hangs when told to.
// What the kernel would keep outlives the object, so that a new supervisor can adopt it.

import type {
  ApplyReport, Counters, Dataplane, DoubtListener, PlaneStatus, ProbePlace, StepDescription,
} from "../../src/dataplane/dataplane.ts";
import { Failure } from "../../src/errors.ts";
import type { FlowListener } from "../../src/model/flows_seen.ts";
import type { FlowKind, HeldFlows } from "../../src/model/held_flows.ts";
import { formatServiceAddress } from "../../src/model/service_address.ts";
import type { SlotSweep } from "../../src/model/slot_states.ts";
import type { ForwardingTable, Ledger } from "../../src/model/table.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";

/** What pinned maps would hold. */
export interface Pinned {
  table: ForwardingTable | null;
  /** Also of a table whose apply failed half-way. */
  ledger: Ledger;
  seed: bigint | null;
  /** Whose state is that of the maps; null: nobody's, until somebody reads them. */
  writer: SimulatedPlane | null;
}

export interface SimulatedPlaneOptions {
  readonly mode?: "xdp" | "proxy";
  readonly pinned?: Pinned;
  /** It moves flows, and walks over those that it remembers when told to. */
  readonly walks?: boolean;
}

const FLOWS_MAX = 65_536;

export function noPins(): Pinned {
  return { table: null, ledger: EMPTY_LEDGER, seed: null, writer: null };
}

export class SimulatedPlane implements Dataplane {
  readonly mode: "xdp" | "proxy";
  readonly pinned: Pinned;
  readonly adopted: boolean;
  readonly applied: ForwardingTable[] = [];
  /** The next so many applies fail, after having written the ledger. */
  failures = 0;
  /** A table with this service cannot be applied. */
  refuses: string | null = null;
  /** Services that cannot be served, with the reason. */
  readonly unserved = new Map<string, string>();
  heartbeats = 0;
  probesEnded = 0;
  /** What probes wanted to go through this plane to. */
  readonly probed = new Set<string>();
  /** Flows that are counted, by "pool/backend". */
  readonly held = new Map<string, number>();
  heldKind: FlowKind = "tracked";
  /** Clients that services with an affinity timeout remember, by name; null: nobody has counted them. */
  remembered: ReadonlyMap<string, number> | null = new Map();
  /** How long answers to clients take, by "pool/backend"; the others' are unknown. */
  readonly answers = new Map<string, number>();
  /** The same of what begins flows. */
  readonly handshakes = new Map<string, number>();
  /** When they were counted (monotonic). */
  countedAtMs = Infinity;
  applies = 0;
  running = 0;
  closed: { readonly detach: boolean } | null = null;
  /** What the last walk found, by service key. */
  found: ReadonlyMap<string, SlotSweep> = new Map();
  /** For which tables it was asked what it shows. */
  readonly askedFor: number[] = [];
  readonly sweeps?: () => ReadonlyMap<string, SlotSweep>;
  readonly #walks: boolean;
  #swept: () => void = () => { throw new Error("nobody listens to walks"); };
  #failed: ReadonlyMap<string, string> = new Map();
  #hanging: (() => void)[] | null = null;
  #isAbandoned = false;

  constructor(options: SimulatedPlaneOptions = {}) {
    this.mode = options.mode ?? "xdp";
    this.pinned = options.pinned ?? noPins();
    this.adopted = this.pinned.table !== null;
    this.pinned.writer = this;
    this.#walks = options.walks === true;
    if (this.#walks) this.sweeps = () => this.found;
  }

  connectProbe({ service, backend, address, port }: ProbePlace): string {
    this.probed.add(`${service} ${backend} ${address.text} ${port}`);
    return "a simulated plane has no sockets";
  }

  answerMs(name: string): number | null { return this.answers.get(name) ?? null; }
  handshakeMs(name: string): number | null { return this.handshakes.get(name) ?? null; }

  endProbes(): void {
    this.probesEnded += 1;
  }

  get table(): ForwardingTable | null {
    return this.pinned.table;
  }

  /** Applies wait from now on, until released. */
  hang(): void {
    this.#hanging ??= [];
  }

  release(): void {
    const waiting = this.#hanging ?? [];
    this.#hanging = null;
    for (const resolve of waiting) resolve();
  }

  /** Its process was killed: nothing that is under way has an effect any more. */
  abandon(): void {
    this.#isAbandoned = true;
  }

  /** Ids as the last table has them that was tried, and slots as packets are sent by them. */
  ledger(generation = 1): Ledger {
    this.askedFor.push(generation);
    if (this.pinned.writer !== this) throw new Error("another plane has written since this one read");
    if (!this.#walks) return this.pinned.ledger;
    return { ...this.pinned.ledger, slots: this.pinned.table?.ledger.slots ?? new Map() };
  }

  onSwept(listener: () => void): void {
    this.#swept = listener;
  }

  /** A walk ends. */
  walk(found: ReadonlyMap<string, SlotSweep>): void {
    this.found = found;
    this.#swept();
  }

  reclaim(): Promise<void> {
    this.pinned.writer = this;
    return Promise.resolve();
  }

  adoptedSeed(): bigint | null {
    return this.pinned.seed;
  }

  async apply(table: ForwardingTable): Promise<ApplyReport> {
    this.running += 1;
    if (this.running > 1) throw new Error("two applies at once");
    try {
      this.applies += 1;
      const hanging = this.#hanging;
      if (hanging !== null) await new Promise<void>((resolve) => { hanging.push(resolve); });
      else await Promise.resolve();
      if (this.#isAbandoned) return await new Promise(() => undefined);
      this.pinned.ledger = table.ledger;
      const isRefused = table.services.some((each) => each.name === this.refuses);
      if (this.failures > 0 || isRefused) {
        this.failures = Math.max(0, this.failures - 1);
        throw new Failure("SYSTEM", { operation: "apply" }, "the simulated plane was told to fail");
      }
      const steps = this.plan(table).length;
      this.pinned.table = table;
      this.pinned.seed = table.services[0]?.hashSeed ?? this.pinned.seed;
      this.applied.push(table);
      this.#failed = new Map([...this.unserved].filter(([name]) =>
        table.services.some((each) => each.name === name)));
      return { steps, durationMs: 0, failed: this.#failed };
    } finally {
      this.running -= 1;
    }
  }

  plan(table: ForwardingTable): readonly StepDescription[] {
    const before = this.pinned.table;
    const steps: StepDescription[] = [];
    for (const [id, destination] of table.destinations) {
      const old = before?.destinations.get(id);
      const same = old?.identity === destination.identity && old.generation === destination.generation
        && old.alive === destination.alive;
      if (!same) steps.push({ action: "write", object: `destination ${id}`, detail: destination.name });
    }
    for (const service of table.services) {
      const old = before?.services.find((each) => each.index === service.index);
      if (old?.ring.key === service.ring.key && old.name === service.name) continue;
      steps.push({ action: "write", object: `ring of ${service.name}`, detail: service.ring.key });
    }
    for (const service of before?.services ?? []) {
      if (table.services.some((each) => each.index === service.index)) continue;
      steps.push({ action: "remove", object: `service ${service.name}`, detail: "" });
    }
    return steps;
  }

  counters(): Counters {
    const names = [...this.table?.destinations.values() ?? []].map(({ name }) => name);
    const heldBy = (name: string): HeldFlows => ({ count: this.held.get(name) ?? 0, kind: this.heldKind, atMs: this.countedAtMs });
    const backendFlows = new Map(names.map((name) => [name, heldBy(name)]));
    return {
      verdicts: {}, services: new Map(), backends: new Map(), flowTable: { count: 0, max: FLOWS_MAX },
      serviceFlows: new Map((this.table?.services ?? []).map(({ name }) =>
        [name, { count: 0, kind: this.heldKind, atMs: this.countedAtMs }])),
      backendFlows, drainFlows: backendFlows,
      flowsAt: new Map((this.table?.services ?? []).map(({ name, destinations }) => [name,
        new Map(destinations.map((id) => this.table!.destinations.get(id)!.name).map((each) => [each, heldBy(each)]))])),
      ...this.#affinities(),
    };
  }

  #affinities(): Pick<Counters, "affinities"> {
    const names = (this.table?.services ?? []).filter(({ affinity }) => affinity !== null).map(({ name }) => name);
    if (names.length === 0) return {};
    const services = new Map(this.remembered === null ? [] : names.map((name) => [name, this.remembered!.get(name) ?? 0]));
    const count = this.remembered === null ? null : [...services.values()].reduce((sum, each) => sum + each, 0);
    return { affinities: { count, max: this.table!.affinitiesMax, services } };
  }

  status(): PlaneStatus {
    const listening = (this.table?.services ?? []).map(({ name, config }): [string, string] =>
      [name, formatServiceAddress(config)]);
    return {
      mode: this.mode, interfaces: [], refused: new Map(), adopted: this.adopted, listening: new Map(listening),
      neighbours: new Map(), pathMtus: new Map(), failed: this.#failed,
    };
  }

  /** What the supervisor does when packets seem not to arrive. */
  doubt: DoubtListener = () => { throw new Error("nobody listens to doubts"); };

  flows: FlowListener = () => { throw new Error("nobody listens to flows"); };

  onFlows(listener: FlowListener): void {
    this.flows = listener;
  }

  onDoubt(listener: DoubtListener): void {
    this.doubt = listener;
  }

  heartbeat(): void {
    this.heartbeats += 1;
  }

  close(options: { readonly detach: boolean; readonly drainMs: number }): Promise<void> {
    this.closed ??= { detach: options.detach };
    if (this.pinned.writer === this) this.pinned.writer = null;
    if (options.detach || this.mode === "proxy") Object.assign(this.pinned, noPins());
    return Promise.resolve();
  }
}
