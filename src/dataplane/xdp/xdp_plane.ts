// The XDP plane: takes forwarding tables, turns them into steps, and follows the network on its own. One
// thing at a time; what changes meanwhile coalesces. Knows the rooms of this folder; must never know where
// a table comes from.

import type { Cancel } from "../../env.ts";
import type { Destination, ForwardingTable, Ledger } from "../../model/table.ts";
import type { Socket } from "node:net";
import type {
  ApplyReport, Counters, Dataplane, DoubtListener, PlaneStatus, ProbePlace, StepDescription,
} from "../dataplane.ts";
import type { FlowListener } from "../../model/flows_seen.ts";
import type { SlotSweep } from "../../model/slot_states.ts";
import { outerProtocols } from "../../model/tunnel_error.ts";
import { formatServiceAddress } from "../../model/service_address.ts";
import { takeSteps, type OnStep } from "./apply.ts";
import type { Attachment } from "./attach.ts";
import { Challenges } from "./challenges.ts";
import { closedTo, handshakesOf, natOutcomesOf, readCounters, readVerdict, takenOut } from "./count.ts";
import { createFlowWalks, type FlowWalks } from "./flow_walks.ts";
import type { NatTable } from "../../model/nat.ts";
import { attachAgain, interfaceStatus } from "./attachments.ts";
import { openCore, type Core, type CoreContext } from "./core.ts";
import { removeInstance } from "./detach.ts";
import { diff, diffRoutes } from "./diff.ts";
import { GracePeriods } from "./grace.ts";
import { imageOf, type Image, type Route } from "./image.ts";
import { interfacesOf, type Interfaces } from "./interfaces.ts";
import { ledgerOf, type KernelState } from "./kernel_state.ts";
import { refuseLate } from "./late_table.ts";
import { liveKernel } from "./live_kernel.ts";
import { createLoadCheck } from "./load_memory.ts";
import type { PlaneMaps } from "./maps.ts";
import { createNatSweeper, type NatSweeper } from "./nat_sweep.ts";
import type { Native, TestRunOptions, TestRunResult } from "./native.ts";
import type { Link } from "./netlink/rtnetlink.ts";
import type { Target, Way } from "./next_hops.ts";
import { doubtsOf, tooNarrowForIpv6, withPathMtu, type LearnedMtu } from "./path_mtu.ts";
import { ProbePaths } from "./probe_paths.ts";
import { PROGRAM } from "./program.ts";
import { publishedSlots, seedOf } from "./recover.ts";
import { servable } from "./servable.ts";
import { describeStep, PUBLISHES, type Step } from "./steps.ts";
import { TunnelNews } from "./tunnel_news.ts";

/** Where the ways to destinations come from: the kernel, or whatever a test or a replay says. */
export interface WaySource {
  /** From now on changes of any of these are followed. */
  ways(targets: readonly Target[]): readonly Way[];
  current(): readonly Way[];
  look(targets: readonly Target[]): readonly Way[];
  linkNamed(name: string): Link | null;
  links(): readonly Link[];
  close(): void;
}

export interface XdpPlaneParts {
  readonly context: CoreContext;
  readonly core: Core;
  readonly waySource: WaySource;
  /** Called before each step: tests end the plane between any two. */
  readonly onStep: OnStep | null;
}

/** Attaching asks the kernel for all interfaces and their offloads. */
const RETRY_MS = { refresh: 1_000, attach: 5_000 } as const;

/** Who wrote last, by directory of pins: two planes of one process may share an instance for a moment. */
const writers = new Map<string, XdpPlane>();

export class XdpPlane implements Dataplane {
  readonly mode = "xdp";
  readonly #context: CoreContext;
  readonly #waySource: WaySource;
  readonly #onStep: OnStep | null;
  readonly #flows: FlowWalks;
  #swept: () => void = () => undefined;
  /** Null where nothing is attached: nothing would come back. */
  readonly #probes: ProbePaths | null;
  readonly #news: TunnelNews;
  #doubt: DoubtListener = () => undefined;
  #flowsSeen: FlowListener = () => undefined;
  readonly #nat: NatSweeper;
  readonly #handshakes = handshakesOf(() => this.#context.env, () => this.#core.program.maps.maps, () => this.#targets);
  #core: Core;
  #table: ForwardingTable | null = null;
  #targets: readonly Destination[] = [];
  #failed: ReadonlyMap<string, string> = new Map();
  #queue: Promise<unknown> = Promise.resolve();
  #isRefreshQueued = false;
  #cancelRetry: Cancel | null = null;
  readonly #grace: GracePeriods;
  #isClosed = false;

  constructor({ context, core, waySource, onStep }: XdpPlaneParts) {
    this.#context = context;
    this.#core = core;
    this.#waySource = waySource;
    this.#onStep = onStep;
    this.#grace = new GracePeriods(context.native);
    const own = { loads: () => this.#core.program.maps.loads, table: () => this.#table };
    this.#flows = createFlowWalks(context.env, () => this.#core.program.maps.maps, createLoadCheck(own, false), () => { this.#swept(); });
    const { native, env, config, requests } = context;
    this.#probes = requests === null ? null : new ProbePaths({
      native, env, config, requests,
      nameOf: (ifindex) => this.#core.attachments.find((each) => each.ifindex === ifindex)?.name ?? null,
    });
    this.#news = new TunnelNews({
      env, count: () => readVerdict(this.#core.program.maps.maps, "DROP_TUNNEL_ERROR"),
      reports: () => this.#core.program.maps.tunnelReports(),
      onChange: () => { this.#narrow(); },
      onUnreachable: (reports) => { for (const doubt of doubtsOf(reports, this.#targets)) this.#doubt(...doubt); },
    });
    const translated = { flows: () => this.#core.program.maps.maps.nat_flows, table: () => this.#translated() };
    this.#nat = createNatSweeper({
      env, ...translated, loads: createLoadCheck(own, true), draining: () => closedTo(this.#targets), ending: () => takenOut(this.#targets),
      challenges: context.pins === null ? null : new Challenges({ env, send: (packets) => native.sendPackets(packets) }),
      outcomes: natOutcomesOf(() => this.#core.program.maps.maps, () => this.#targets, (...seen) => { this.#flowsSeen(...seen); }),
    });
    this.#claim();
  }

  connectProbe(place: ProbePlace): Socket | string {
    if (this.#isClosed || this.#probes === null) return "the plane is not attached";
    return this.#probes.connect(place, this.#table, this.#core.program.maps.maps);
  }

  endProbes(): void {
    if (!this.#isClosed) this.#probes?.close();
  }

  ledger(generation = 1): Ledger {
    const { state, program } = this.#core;
    return ledgerOf(state, (version) => publishedSlots(program.maps, version, generation));
  }

  reclaim(): Promise<void> { return this.#serially(() => this.#reclaim()); }

  adoptedSeed(): bigint | null {
    return this.#core.adopted ? seedOf(this.#core.state) : null;
  }

  async apply(table: ForwardingTable): Promise<ApplyReport> {
    const { clock } = this.#context.env;
    const startMs = clock.monotonicMs();
    return await this.#serially(async () => {
      await this.#reclaim();
      const { served, failed } = servable(table);
      this.#table = served;
      this.#targets = [...served.destinations.values()];
      this.#news.follow(served.pathMtuAgeMs);
      const image = this.#image(served, this.#waySource.ways(this.#targets));
      const steps = diff(this.#core.state, image);
      let lastWriteMs = clock.monotonicMs();
      let isWriting = false;
      const wrote = (): void => { if (isWriting) lastWriteMs = clock.monotonicMs(); };
      // Until all of it is there, what packets are sent by is a bit of both.
      this.#flows.follow(null);
      await this.#take(steps, ({ kind }) => {
        wrote();
        isWriting = PUBLISHES.has(kind);
        if (isWriting) refuseLate(this.#core.state, clock.monotonicMs() - startMs);
      });
      wrote();
      this.#flows.follow(served);
      this.#failed = failed;
      return { steps: steps.length, durationMs: lastWriteMs - startMs, failed };
    });
  }

  plan(table: ForwardingTable): readonly StepDescription[] {
    const { served } = servable(table);
    const ways = this.#waySource.look([...served.destinations.values()]);
    return diff(this.#core.state, this.#image(served, ways)).map(describeStep);
  }

  /** The network has changed: next hops follow, without the supervisor. */
  refresh(): void {
    if (this.#isRefreshQueued || this.#isClosed) return;
    this.#isRefreshQueued = true;
    this.#serially(async () => {
      this.#isRefreshQueued = false;
      if (this.#isClosed || this.#successor() !== null) return;
      await this.#reclaim();
      attachAgain(this.#context, this.#core, (name) => this.#waySource.linkNamed(name));
      await this.#take(diffRoutes(this.#core.state, this.#routes(), this.#interfaces()), null);
      if (this.#core.refused.size > 0) this.#refreshIn(RETRY_MS.attach);
    }).catch((error: unknown) => {
      this.#context.env.log.warn({ error: String(error) }, "next hops could not be written: trying again");
      this.#refreshIn(RETRY_MS.refresh);
    });
  }

  #refreshIn(milliseconds: number): void {
    this.#cancelRetry?.();
    this.#cancelRetry = this.#isClosed ? null : this.#context.env.clock.after(milliseconds, () => { this.refresh(); });
  }

  counters(): Counters {
    const { program, state } = this.#core;
    return readCounters(program.maps.maps, this.#table, {
      flows: this.#flows.flows(), flowsMax: state.capacities.flows,
      samples: state.features.has("featureSample") ? this.#flows.samples() : null,
      nat: this.#translated() === null ? null : this.#nat.read(), natFlowsMax: state.capacities.natFlows,
      clients: this.#flows.clients(), affinitiesMax: state.capacities.affinities,
    });
  }

  status(): PlaneStatus {
    const ways = this.#waySource.current();
    return {
      mode: "xdp",
      ...interfaceStatus(this.#core, (name) => this.#waySource.linkNamed(name)),
      adopted: this.#core.adopted,
      listening: new Map((this.#table?.services ?? []).map(({ name, config }) =>
        [name, formatServiceAddress(config)])),
      pathMtus: new Map(this.#targets.flatMap((target) => {
        const learned = this.#learned(target);
        return learned === undefined ? [] : [[target.name, learned.mtu] as const];
      })),
      neighbours: new Map(this.#targets.map(({ name }, at) => [name, ways[at]?.text ?? "not looked up yet"])),
      failed: this.#failed,
    };
  }

  sweeps(): ReadonlyMap<string, SlotSweep> { return this.#flows.found(); }
  onSwept(listener: () => void): void { this.#swept = listener; }
  onDoubt(listener: DoubtListener): void { this.#doubt = listener; }
  onFlows(listener: FlowListener): void { this.#flowsSeen = listener; }
  handshakeMs(name: string): number | null { return this.#isClosed || this.#translated() === null ? null : this.#handshakes.of(name); }

  heartbeat(): void {
    if (!this.#isClosed) this.#core.program.maps.settings.writeHeartbeat(this.#context.env.clock.monotonicNs());
  }

  /** Where the program is, and how it got there. */
  attachments(): readonly Pick<Attachment, "name" | "mode" | "adopted" | "note" | "remedy">[] {
    return this.#core.attachments;
  }

  /** One packet through the program as it is loaded, for tests and replay. */
  testRun(packet: Uint8Array, options: TestRunOptions): TestRunResult {
    return this.#core.program.object.testRun(PROGRAM, packet, options);
  }

  /** The maps and the state, for tests. */
  get inside(): { readonly maps: PlaneMaps; readonly state: KernelState; readonly native: Native } {
    return { maps: this.#core.program.maps, state: this.#core.state, native: this.#context.native };
  }

  /** Resolves when nothing is queued and everything idle is quiet. */
  async settled(): Promise<void> {
    for (let queue: unknown = null; queue !== this.#queue;) {
      queue = this.#queue;
      await this.#queue;
    }
    await this.#grace.ended();
  }

  async close({ detach }: { readonly detach: boolean; readonly drainMs: number }): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#flows.stop();
    this.#news.stop();
    this.#nat.stop();
    await this.#queue;
    // The maps must not go while a grace period for them is under way.
    await this.#grace.ended().catch(() => undefined);
    const { pins, native, requests, env, config: { instance } } = this.#context;
    try {
      this.#probes?.close();
      if (detach && pins !== null && this.#successor() === null) removeInstance(native, { env, instance }, requests);
    } finally {
      this.#waySource.close();
      this.#release();
      if (pins !== null && writers.get(pins.directory) === this) writers.delete(pins.directory);
    }
  }

  // ---- one thing at a time

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #take(steps: readonly Step[], onStep: ((step: Step) => void) | null): Promise<void> {
    const { state } = this.#core;
    try {
      await takeSteps(liveKernel(this.#context, this.#core, this.#grace), state, steps, (step, position) => {
        this.#onStep?.(step, position);
        onStep?.(step);
      });
    } finally {
      // The next change then finds its halves quiet, and has nothing to wait for.
      if (state.marks > state.quiet) this.#grace.over(state).catch(() => undefined);
    }
  }

  // ---- two planes of one instance, while the config is changed

  #claim(): void {
    if (this.#context.pins !== null) writers.set(this.#context.pins.directory, this);
  }

  /** Another plane of this process, which has taken over the maps and has them still. */
  #successor(): XdpPlane | null {
    const writer = writers.get(this.#context.pins?.directory ?? "");
    return writer === undefined || writer === this ? null : writer;
  }

  /** What another plane wrote is not in our state: all of it is read again, and what we had goes then. */
  async #reclaim(): Promise<void> {
    const { pins } = this.#context;
    if (pins === null || writers.get(pins.directory) === this) return;
    const core = await openCore(this.#context);
    this.#release();
    this.#core = core;
    this.#claim();
  }

  #release(): void {
    const { attachments, program } = this.#core;
    for (const { link } of attachments) link.close();
    program.maps.closeRings();
    program.object.close();
  }

  // ---- tables and ways

  #interfaces(): Interfaces {
    const { macs } = this.#context.config.dataplane;
    return interfacesOf(this.#core.attachments.map(({ ifindex }) => ifindex), this.#waySource.links(), macs);
  }

  #image(table: ForwardingTable, ways: readonly Way[]): Image {
    const byId = new Map([...table.destinations.values()].map((destination, at) =>
      [destination.id, this.#route(destination, ways[at]!)]));
    return imageOf(table, { ...this.#interfaces(), view: ({ id }) => byId.get(id)! });
  }

  #routes(): ReadonlyMap<number, Route> {
    const ways = this.#waySource.current();
    const { destinations } = this.#core.state;
    // After a failed apply an id may still be somebody else's.
    return new Map(this.#targets.flatMap((target, at) => destinations.get(target.id)?.identity === target.identity
      ? [[target.id, this.#route(target, ways[at]!)] as const] : []));
  }

  /** With what is known of the way that a tunnel takes. */
  #route(destination: Destination, { route }: Way): Route {
    return withPathMtu(route, this.#learned(destination));
  }

  #learned(destination: Destination): LearnedMtu | undefined {
    return outerProtocols(destination).length === 0 ? undefined : this.#news.mtus.get(destination.address.text);
  }

  /** Ways have become narrower, or wider again. */
  #narrow(): void {
    this.refresh();
    const narrow = this.#table === null ? [] : tooNarrowForIpv6(this.#table, this.#news.mtus);
    if (narrow.length > 0) this.#context.env.log.warn({ narrow }, "path MTUs leave tunnels less than the 1280 bytes that IPv6 needs");
  }

  /** What the kernel translates by, as long as the program does; null: nothing, or another plane sees to it. */
  #translated(): NatTable | null {
    const { state } = this.#core;
    return state.features.has("featureNat") && this.#successor() === null ? state.nat : null;
  }
}
