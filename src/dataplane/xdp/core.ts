// The live part of a plane: program, maps, pins and links. Creates it, or adopts one that is pinned, which
// goes on forwarding all the while. Knows the order in which things become visible to the kernel; what is
// in the maps is diff.ts's business.

import type { Env } from "../../env.ts";
import { affinityOf } from "../../model/affinity.ts";
import { serviceKey } from "../../model/service_address.ts";
import type { Config } from "../../model/config.ts";
import { trackingOf } from "../../model/flow_decide.ts";
import { destinationIds } from "../../model/ledger.ts";
import { translates } from "../../model/nat.ts";
import { isPickAlgorithm, isXdpPick } from "../../model/pick.ts";
import { outerProtocols } from "../../model/tunnel_error.ts";
import { ABI_FINGERPRINT, POINTSMAN_MAPS } from "./abi.gen.ts";
import { updateLink, type AttachMode, type Attachment, type LinkName } from "./attach.ts";
import { absorb, catchUp, moveContents, type Leftovers } from "./carry.ts";
import { adoptedFeatures, attachAll, refuseWhatIsLost, removeOtherLinks } from "./attachments.ts";
import { mismatch, pinLayout, pinnedFingerprint } from "./earlier_plane.ts";
import type { Obstacle } from "./finding.ts";
import { abiOfObject } from "./fingerprint.ts";
import { icmpIntervalNs } from "./image.ts";
import { featuresOf, type Feature } from "./program_features.ts";
import { activeVersion, emptyState, type KernelState } from "./kernel_state.ts";
import { PlaneMaps, type MapName, type MapSet } from "./maps.ts";
import type { BpfMap, Native } from "./native.ts";
import { failureFrom } from "./native_failure.ts";
import type { Link } from "./netlink/rtnetlink.ts";
import type { Requests } from "./netlink/requests.ts";
import { placesOf, settle, type Pins } from "./pins.ts";
import { capacitiesOf, loadProgram, type LoadedProgram, type ProgramSource } from "./program.ts";
import { recoverState } from "./recover.ts";
import type { Capacities, Step } from "./steps.ts";
import { Upgrade } from "./upgrade.ts";
import { ownAddresses } from "./vip.ts";

export interface CoreContext {
  readonly native: Native;
  readonly env: Env;
  readonly config: Config;
  readonly source: ProgramSource;
  /** Null: nothing outlives the process (replay, tests). */
  readonly pins: Pins | null;
  /** Where the program goes, as it is now; none for a plane that is only test-run. Throws DEVICE_MISSING. */
  readonly interfaces: () => readonly Link[];
  readonly requests: Requests | null;
  /** Where `vip.assign: interface` puts addresses: the first interface, or the bond above it. 0: nowhere. */
  readonly addressIfindex: () => number;
  /** What would lose packets on this interface in this mode, of a program with these features, or null. */
  readonly obstacle: (
    link: LinkName, to: AttachMode | "refused", features: ReadonlySet<Feature>,
  ) => Obstacle | null;
}

export interface Core {
  program: LoadedProgram;
  readonly state: KernelState;
  attachments: readonly Attachment[];
  /** Why interfaces of the config run nothing, by name: attachAgain() tries them again. */
  readonly refused: Map<string, string>;
  readonly transmitByRedirect: boolean;
  readonly adopted: boolean;
}

const POLICIES = 1024;
/** Of wildcard services; more are made room for when a table needs them. */
const GROUP_ENTRIES = 1024;
const QUIC_MIN = 8;
/** Where nothing is translated. */
const NAT_FLOWS_MIN = 8;
/** Where no client is remembered. */
const AFFINITIES_MIN = 64;

/** Room from the config's limits; ids count from 1. */
export function configuredCapacities({ limits, services, pools }: Config): Capacities {
  const hasAffinities = services.some(({ affinityTimeoutMs }) => affinityTimeoutMs !== null);
  const hasNat = services.some(({ forwarding }) => translates(forwarding));
  // No more than there are: most configs have none, and a program grows when there are more.
  const configs = services.flatMap(({ quicLb }) => quicLb?.configs ?? []);
  const servers = configs.length * Math.max(0, ...pools.map(({ backends }) => backends.length));
  return {
    services: limits.services, destinations: destinationIds(limits.backends) + 1, flows: limits.flows,
    fragments: limits.fragments, policies: POLICIES,
    natFlows: hasNat ? limits.natFlows : NAT_FLOWS_MIN,
    affinities: hasAffinities ? limits.affinities : AFFINITIES_MIN,
    groupEntries: GROUP_ENTRIES,
    quicConfigs: Math.max(QUIC_MIN, configs.length * 2), quicServers: Math.max(QUIC_MIN, servers * 2),
  };
}

/** What the config may need of the program, before there is a table. */
export function configuredFeatures(config: Config): Set<Feature> {
  return featuresOf({
    keys: config.services,
    versions: config.services.map((service) => ({
      mssMax: service.mssMax ?? 0, hasQuicLb: service.quicLb !== null, hasSecondChance: service.secondChance,
      pick: { by: isPickAlgorithm(service.algorithm) && isXdpPick(service.algorithm) ? service.algorithm : null },
      affinity: affinityOf(service, serviceKey(service)), regions: service.geo ?? service.region,
      tracking: trackingOf({ config: service }), hasNat: translates(service.forwarding),
      scheme: { ringSize: service.ringSize, hashInput: service.hash }, predecessor: null,
      hasPolicy: service.policy.allow.length + service.policy.deny.length > 0,
    })),
    forwardings: config.services.map(({ forwarding }) => forwarding),
    tunnelSources: Object.values(config.dataplane.tunnelSource),
    action: config.dataplane.orphan.action,
    icmpIntervalNs: icmpIntervalNs(config.limits.icmpErrors),
    hasTunnelEnds: config.dataplane.pathMtuAgeMs > 0
      && config.services.some(({ forwarding }) => outerProtocols({ forwarding }).length > 0),
  });
}

export async function openCore(context: CoreContext): Promise<Core> {
  try {
    const { pins, env, native, config } = context;
    if (pins === null) return createCore(context);
    // Half-made planes go: their owner died between the first pin and the last, before anything was attached.
    const beside = settle(env, placesOf(env, config.instance));
    if (!pins.isComplete()) return createCore(context);
    const isOurs = pinnedFingerprint(native, pins) === ABI_FINGERPRINT;
    if (isOurs && beside.length === 0) return await adoptCore(context, pins, null);
    return await upgradeCore(context, pins, beside);
  } catch (error) {
    throw failureFrom(error);
  }
}

/** On veth, XDP_TX needs a program on the peer: redirecting to the own interface does not. */
export function needsRedirect(interfaces: readonly Link[]): boolean {
  return interfaces.some(({ kind }) => kind === "veth");
}

function createCore(context: CoreContext): Core {
  const { env, config, pins } = context;
  const features = configuredFeatures(config);
  const capacities = configuredCapacities(config);
  const transmitByRedirect = needsRedirect(context.interfaces());
  const program = loadProgram(context.source, { features, capacities, transmitByRedirect, reuse: {} });
  try {
    program.maps.settings.writeHeartbeat(env.clock.monotonicNs());
    program.maps.settings.writeFingerprint();
    if (pins !== null) {
      pins.create();
      for (const name of POINTSMAN_MAPS) if (name !== "settings") program.maps.maps[name].pin(pins.mapPath(name));
      pinLayout(context.native, pins, abiOfObject(context.source.bytes));
      program.maps.maps.settings.pin(pins.mapPath("settings"));
    }
    const attachments = pins === null ? [] : attachAll(context, pins, program, features);
    const state = emptyState(capacities, features);
    return { program, state, attachments, refused: new Map(), transmitByRedirect, adopted: false };
  } catch (error) {
    if (pins !== null && env.files.exists(pins.directory)) pins.removeAll();
    program.object.close();
    throw error;
  }
}

/** Makes a plane of this version beside the one that is there, and adopts that. */
async function upgradeCore(context: CoreContext, current: Pins, beside: readonly Pins[]): Promise<Core> {
  const { native, env, config, source } = context;
  const { next } = placesOf(env, config.instance);
  const upgrade = new Upgrade({ native, env, source, abi: abiOfObject(source.bytes), current, beside, target: next });
  try {
    const core = await adoptPrepared(context, upgrade, configuredCapacities(config));
    upgrade.finish();
    return core;
  } finally {
    upgrade.close();
  }
}

async function adoptPrepared(context: CoreContext, upgrade: Upgrade, configured: Capacities): Promise<Core> {
  try {
    const room = Object.entries(upgrade.room()).filter(([, entries]) => Number.isFinite(entries));
    upgrade.prepare(larger(configured, { ...configured, ...Object.fromEntries(room) }));
    return await adoptCore(context, upgrade.target, upgrade);
  } catch (error) {
    upgrade.giveUp();
    throw upgrade.failureFrom(error);
  }
}

/** `upgrade`: what it is made from, and who has its links still. */
async function adoptCore(context: CoreContext, pins: Pins, upgrade: Upgrade | null): Promise<Core> {
  const { native, env, config } = context;
  const interfaces = context.interfaces();
  const pinned = openPinned(native, pins);
  const leftovers = openLeftovers(native, pins);
  const linkPins = upgrade?.linkPins ?? pins;
  const live = new PlaneMaps(native, pinned);
  try {
    live.settings.writeHeartbeat(env.clock.monotonicNs());
    absorb(leftovers, live);
    // What the last owner took out of publication may still be in use by a packet.
    await native.gracePeriod();
    const placed = placePinnedRings(native, pins, live);
    const state = recover(context, live, placed);
    const capacities = larger(state.capacities, configuredCapacities(config));
    const held = new Set([...heldFeatures(state), ...state.features]);
    const features = adoptedFeatures(context, linkPins, { held, configured: configuredFeatures(config) });
    const transmitByRedirect = needsRedirect(interfaces);
    const program = loadProgram(context.source, { features, capacities, transmitByRedirect, reuse: pinned });
    try {
      const sinceNs = env.clock.monotonicNs();
      moveContents(live, program);
      pinCreated(pins, program);
      upgrade?.beforeSwap(program.maps);
      const attachments = attachAll(context, linkPins, program, features);
      if (upgrade !== null || program.created.length > 0 || Object.keys(leftovers).length > 0) {
        await native.gracePeriod();
        for (const from of [pinned, leftovers]) catchUp(from, program.maps, sinceNs);
        upgrade?.afterSwap(program.maps);
      }
      for (const name of program.created) pins.replaceMap(name);
      for (const name of Object.keys(leftovers)) pins.remove(pins.newMapPath(name));
      removeOtherLinks(context, linkPins);
      return {
        program, state: { ...state, capacities, features }, attachments, refused: new Map(), transmitByRedirect, adopted: true,
      };
    } catch (error) {
      program.object.close();
      throw error;
    }
  } catch (error) {
    live.closeRings();
    throw error;
  } finally {
    for (const map of [...Object.values(pinned), ...Object.values(leftovers)]) map.close();
  }
}

/** What somebody pinned who died before it took the place of what it was to replace. */
function openLeftovers(native: Native, pins: Pins): Leftovers {
  const found = POINTSMAN_MAPS.filter((name) => pins.has(pins.newMapPath(name)));
  return Object.fromEntries(found.map((name) => [name, native.BpfMap.open(pins.newMapPath(name))]));
}

function openPinned(native: Native, pins: Pins): MapSet {
  const opened: Partial<Record<MapName, BpfMap>> = {};
  try {
    for (const name of POINTSMAN_MAPS) {
      if (!pins.has(pins.mapPath(name))) throw mismatch(pins, ABI_FINGERPRINT, `its map ${name} is gone`);
      opened[name] = native.BpfMap.open(pins.mapPath(name));
    }
    return opened as MapSet;
  } catch (error) {
    for (const map of Object.values(opened)) map.close();
    throw error;
  }
}

type PinnedRing = ReturnType<Pins["rings"]>[number];

/** A ring or table of regions that was pinned and never placed is placed now; nobody shows it. */
function placePinnedRings(native: Native, pins: Pins, live: PlaneMaps): PinnedRing[] {
  const placed = pins.rings();
  for (const { ringClass, id } of placed) live.placeRing(ringClass, id, native.BpfMap.open(pins.ringPath(ringClass, id)));
  for (const id of pins.regions()) live.regions.place(id, native.BpfMap.open(pins.regionsPath(id)));
  return placed;
}

function recover({ requests, addressIfindex }: CoreContext, live: PlaneMaps, rings: readonly PinnedRing[]): KernelState {
  const interfaceIfindex = addressIfindex();
  const capacities = capacitiesOf(live.maps);
  if (capacities === null) throw new RangeError("the pinned maps have no sizes");
  const state = recoverState(live, { capacities, features: new Set(), rings: [...rings], assigned: [] });
  if (requests !== null && interfaceIfindex !== 0) {
    const addresses = [...state.virtualAddresses.values()];
    for (const assigned of ownAddresses(requests, addresses, { interfaceIfindex })) {
      state.assigned.set(`${assigned.address.text} on ${assigned.on}`, assigned);
    }
  }
  return state;
}

/** What the table in the kernel needs until the next one is applied. */
function heldFeatures(state: KernelState): Set<Feature> {
  const served = [...state.services.values()].filter(({ key }) => key !== null);
  return featuresOf({
    keys: served.map(({ key }) => key).filter((key) => key !== null),
    versions: served.map(activeVersion).filter((version) => version !== null),
    forwardings: [...state.destinations.values()].filter(({ given }) => given).map(({ forwarding }) => forwarding),
    tunnelSources: [...state.destinations.values()].map(({ tunnelSource }) => tunnelSource),
    action: state.orphan.action,
    icmpIntervalNs: state.icmpIntervalNs,
    hasTunnelEnds: state.tunnelEnds.size > 0,
  });
}

function larger(a: Capacities, b: Capacities): Capacities {
  return {
    services: Math.max(a.services, b.services), destinations: Math.max(a.destinations, b.destinations),
    flows: Math.max(a.flows, b.flows), fragments: Math.max(a.fragments, b.fragments),
    policies: Math.max(a.policies, b.policies), groupEntries: Math.max(a.groupEntries, b.groupEntries),
    quicConfigs: Math.max(a.quicConfigs, b.quicConfigs), quicServers: Math.max(a.quicServers, b.quicServers),
    natFlows: Math.max(a.natFlows, b.natFlows), affinities: Math.max(a.affinities, b.affinities),
  };
}

function pinCreated(pins: Pins, { created, maps }: LoadedProgram): void {
  for (const name of created) {
    pins.remove(pins.newMapPath(name));
    maps.maps[name].pin(pins.newMapPath(name));
  }
}

/** What was to take the place of other maps, and does not. */
function unpinCreated(pins: Pins, { created }: LoadedProgram): void {
  for (const name of created) pins.remove(pins.newMapPath(name));
}

/**
 * Another program over the same maps, or larger copies of them, on all interfaces. When one refuses, all of
 * them run the old one again.
 */
export async function swapProgram(
  context: CoreContext, core: Core, step: Extract<Step, { kind: "load-program" }>,
): Promise<void> {
  const { features, capacities } = step;
  const { pins, native, env } = context;
  const { transmitByRedirect, program: old } = core;
  refuseWhatIsLost(context, core, features);
  const next = loadProgram(context.source, { features, capacities, transmitByRedirect, reuse: old.maps.maps });
  const swapped: Attachment[] = [];
  const sinceNs = env.clock.monotonicNs();
  try {
    moveContents(old.maps, next);
    if (pins !== null) pinCreated(pins, next);
    for (const attachment of core.attachments) {
      // One whose interface is gone leads nowhere, and keeps nothing from the others.
      if (updateLink(attachment.link, next.object)) swapped.push(attachment);
    }
  } catch (error) {
    for (const { link } of swapped) updateLink(link, old.object);
    if (pins !== null) unpinCreated(pins, next);
    next.object.close();
    throw error;
  }
  for (const name of next.created) pins?.replaceMap(name);
  core.program = next;
  try {
    if (next.created.length === 0) return;
    await native.gracePeriod();
    catchUp(old.maps.maps, next.maps, sinceNs);
  } finally {
    old.object.close();
  }
}
