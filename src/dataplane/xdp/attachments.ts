// Where the program is, over all interfaces of a plane: attached to all of them or none at first, to each for itself
// from then on. Knows which interfaces the config means now; how one of them gets the program is attach.ts's business.

import { isFailure } from "../../errors.ts";
import type { PlaneStatus } from "../dataplane.ts";
import { attachInterface, lossFailure, type Attachment, type ObstacleTo } from "./attach.ts";
import type { Core, CoreContext } from "./core.ts";
import type { Obstacle } from "./finding.ts";
import type { Feature } from "./program_features.ts";
import type { BpfObject } from "./native.ts";
import type { Link } from "./netlink/rtnetlink.ts";
import type { Pins } from "./pins.ts";
import type { LoadedProgram } from "./program.ts";
import { heldBy, holderOf } from "./program_holder.ts";

/** All or none: what this call attached goes again when one interface refuses. */
export function attachAll(
  context: CoreContext, pins: Pins, { object }: LoadedProgram, features: ReadonlySet<Feature>,
): Attachment[] {
  const interfaces = context.interfaces();
  const isPinned = ({ name }: Link): boolean => pins.has(pins.linkPath(name));
  const attached = new Map<string, Attachment>();
  try {
    // Those that may refuse come first: a live link keeps its program until all of them agreed.
    for (const link of [...interfaces].sort((a, b) => Number(isPinned(a)) - Number(isPinned(b)))) {
      attached.set(link.name, attachOne(context, pins, object, { link, features }));
    }
    return interfaces.map(({ name }) => attached.get(name)!);
  } catch (error) {
    for (const { link, name, adopted } of attached.values()) {
      if (!adopted) {
        link.detach();
        pins.remove(pins.linkPath(name));
      }
      link.close();
    }
    throw error;
  }
}

/**
 * What the program of an adopted plane does until a table asks for more: what the config may need, but no more than was
 * `held` where a live link would lose packets by it. The table that needs it is then refused, and the one before goes on.
 */
export function adoptedFeatures(
  { config: { dataplane: { xdp } }, interfaces, obstacle }: CoreContext, pins: Pins,
  { held, configured }: { readonly held: ReadonlySet<Feature>; readonly configured: ReadonlySet<Feature> },
): Set<Feature> {
  const all = new Set([...configured, ...held]);
  const isLost = interfaces().some((link) => {
    const mode = link.xdp.mode === "generic" ? "generic" : "native";
    return pins.has(pins.linkPath(link.name)) && (xdp === "auto" || xdp === mode)
      && obstacle(link, mode, held) === null && obstacle(link, mode, all) !== null;
  });
  return isLost ? new Set(held) : all;
}

function attachOne(
  context: CoreContext, pins: Pins, object: BpfObject,
  { link, features }: { readonly link: Link; readonly features: ReadonlySet<Feature> },
): Attachment {
  const { native, env, config: { instance, dataplane: { xdp } } } = context;
  const obstacle: ObstacleTo = (to, mode) => context.obstacle(to, mode, features);
  const holder = (held: Link): Obstacle | null => {
    const found = holderOf(native, env, instance, held);
    return found === null ? null : heldBy(found, instance, held.name);
  };
  return attachInterface({ native, log: env.log, pins, object, mode: xdp, obstacle, holder }, link);
}

/**
 * Follows interfaces that were made again under their names, and so run nothing, and the ports of bonds. One that
 * cannot be attached stands in core.refused from then on, and keeps nothing from the others.
 */
export function attachAgain(context: CoreContext, core: Core, linkNamed: (name: string) => Link | null): void {
  const { pins } = context;
  if (pins === null) return;
  letGoOfOld(context, pins, core, linkNamed);
  const wanted = wantedNow(context);
  if (wanted !== null) for (const name of [...core.refused.keys()]) {
    if (!wanted.some((link) => link.name === name)) core.refused.delete(name);
  }
  const missing = (wanted ?? [...core.refused.keys()].map(linkNamed)).filter((link) => link !== null)
    .filter(({ name }) => !core.attachments.some((each) => each.name === name));
  for (const link of missing) attachMissing(context, pins, core, link);
  if (wanted !== null) detachOthers(context, pins, core, wanted);
}

/** For status: one that is gone has its attachment still, until it is made again. */
export function interfaceStatus(
  { attachments, refused }: Pick<Core, "attachments" | "refused">, linkNamed: (name: string) => Link | null,
): Pick<PlaneStatus, "interfaces" | "refused"> {
  const gone = attachments.filter(({ name }) => linkNamed(name) === null).map(({ name }) => name);
  const why = (name: string, reason: string): string =>
    linkNamed(name) === null ? "it is gone" : reason === "" ? "it was made again" : reason;
  return {
    interfaces: attachments.filter(({ name }) => !gone.includes(name))
      .map(({ name, ifindex, mode, adopted }) => ({ name, ifindex, mode, adopted })),
    refused: new Map([...gone.map((name) => [name, ""] as const), ...refused].map(([name, reason]) => [name, why(name, reason)])),
  };
}

/** Each link is closed once: what it was attached to is refused until it is attached again. */
function letGoOfOld(
  { env: { log } }: CoreContext, pins: Pins, core: Core, linkNamed: (name: string) => Link | null,
): void {
  for (const attachment of core.attachments) {
    const { name, ifindex: before, link: old } = attachment;
    const now = linkNamed(name)?.ifindex ?? before;
    if (now === before) continue;
    log.warn({ interface: name, before, now }, "the interface was made again: attaching anew");
    core.attachments = core.attachments.filter((each) => each !== attachment);
    core.refused.set(name, "");
    // Or it would go on where the interface merely has another name now.
    old.detach();
    old.close();
    pins.remove(pins.linkPath(name));
  }
}

function attachMissing(context: CoreContext, pins: Pins, core: Core, link: Link): void {
  const { env: { log } } = context;
  const { name } = link;
  const before = core.refused.get(name);
  try {
    const attachment = attachOne(context, pins, core.program.object, { link, features: core.state.features });
    core.attachments = [...core.attachments, attachment];
    core.refused.delete(name);
    log.info({ interface: name }, "attached");
  } catch (error) {
    const reason = String(error);
    core.refused.set(name, reason);
    // It is tried again and again, and told once.
    if (reason !== before) log.warn({ interface: name, error: reason }, "an interface could not be attached: trying again");
  }
}

/** Interfaces that are ports of a bond no more. */
function detachOthers({ env: { log } }: CoreContext, pins: Pins, core: Core, wanted: readonly Link[]): void {
  const gone = core.attachments.filter(({ name }) => !wanted.some((link) => link.name === name));
  core.attachments = core.attachments.filter((each) => !gone.includes(each));
  for (const { name, link } of gone) {
    link.detach();
    link.close();
    pins.remove(pins.linkPath(name));
    log.info({ interface: name }, "detached: it is no port of the bond any more");
  }
}

/** Null while an interface of the config is gone, or a bond has no port: what is attached stays then. */
function wantedNow({ interfaces }: CoreContext): readonly Link[] | null {
  try {
    return interfaces();
  } catch (error) {
    if (isFailure(error, "DEVICE_MISSING") || isFailure(error, "XDP_UNAVAILABLE")) return null;
    throw error;
  }
}

/** Interfaces that the config no longer names. */
export function removeOtherLinks({ native, interfaces, env: { log } }: CoreContext, pins: Pins): void {
  for (const name of pins.links()) {
    if (interfaces().some((link) => link.name === name)) continue;
    const link = native.XdpLink.open(pins.linkPath(name));
    link.detach();
    link.close();
    pins.remove(pins.linkPath(name));
    log.info({ interface: name }, "detached: the config no longer names this interface");
  }
}

/** What was attached may be in the way of what the program is to do from now on. */
export function refuseWhatIsLost(
  { obstacle }: CoreContext, { attachments, state }: Core, features: ReadonlySet<Feature>,
): void {
  for (const attachment of attachments) {
    const { mode } = attachment;
    if (obstacle(attachment, mode, state.features) !== null) continue;
    const against = obstacle(attachment, mode, features);
    if (against !== null) throw lossFailure(attachment, mode, against);
  }
}
