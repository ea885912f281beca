// Puts the program on interfaces, and finds it there again. Knows links, modes and what the kernel's
// refusals mean; knows no service. Native comes before generic, and a step down is announced.

import { Failure, isFailure } from "../../errors.ts";
import type { Log } from "../../env.ts";
import type { XdpMode } from "../../model/config.ts";
import type { BpfObject, Native, XdpLink } from "./native.ts";
import { attachable } from "./bonds.ts";
import type { Obstacle } from "./finding.ts";
import { failureFrom, isNativeError } from "./native_failure.ts";
import type { Link } from "./netlink/rtnetlink.ts";
import type { Pins } from "./pins.ts";
import { PROGRAM } from "./program.ts";

/** XDP_FLAGS_DRV_MODE and XDP_FLAGS_SKB_MODE. */
const MODES = { native: 4, generic: 2 } as const;
export type AttachMode = keyof typeof MODES;

const ERRNO = { ENODEV: 19, EINVAL: 22, ERANGE: 34, ENOLINK: 67, EOPNOTSUPP: 95 } as const;

/** An interface as far as its attachment knows it. */
export type LinkName = Pick<Link, "name" | "ifindex">;

export interface Attachment {
  readonly name: string;
  readonly ifindex: number;
  readonly mode: AttachMode;
  readonly adopted: boolean;
  readonly link: XdpLink;
  /** Why it is not native, or null. */
  readonly note: string | null;
  /** What would let it be native; null: nothing that is known. */
  readonly remedy: string | null;
}

export interface AttachContext {
  readonly native: Native;
  readonly log: Log;
  readonly pins: Pins;
  readonly object: BpfObject;
  readonly mode: XdpMode;
  readonly obstacle: ObstacleTo;
  /** Who has the program that an interface runs already, in words and with a remedy; null: a stranger. */
  readonly holder: (link: Link) => Obstacle | null;
}

/** What would lose packets in a mode, although the kernel would attach; "refused": why a driver may have refused native. */
export type ObstacleTo = (link: LinkName, to: AttachMode | "refused") => Obstacle | null;

/**
 * The interfaces of these names, each once, bonds by their ports; or DEVICE_MISSING for the first that is not there,
 * XDP_UNAVAILABLE for a bond that has none.
 */
export function findInterfaces(names: readonly string[], links: readonly Link[]): Link[] {
  const found = names.flatMap((name) => {
    const link = links.find((each) => each.name === name);
    if (link === undefined) {
      throw new Failure("DEVICE_MISSING", { name },
        `there is no interface ${name}: correct dataplane.interfaces, or create it first`);
    }
    const places = attachable(link, links);
    if (places.length === 0) {
      throw new Failure("XDP_UNAVAILABLE", { interface: name },
        `${name} is a bond, whose program goes to its ports, and it has none: "ip link set PORT master ${name}"`);
    }
    return places;
  });
  return [...new Set(found)];
}

/** Has the program run on this interface: by the link that is pinned, else by a new one, which is then pinned. */
export function attachInterface(context: AttachContext, link: Link): Attachment {
  const { pins } = context;
  const pin = pins.linkPath(link.name);
  if (pins.has(pin)) {
    const adopted = adopt(context, link, pin);
    if (adopted !== null) return adopted;
  }
  const { attached, mode, note, remedy } = attachNew(context, link);
  try {
    attached.pin(pin);
  } catch (error) {
    attached.close();
    throw failureFrom(error);
  }
  return { name: link.name, ifindex: link.ifindex, mode, adopted: false, link: attached, note, remedy };
}

/** The mode in which a program that is there is gone on with; null: there is none, or the config wants another mode. */
export function adoptedMode({ xdp }: Pick<Link, "xdp">, wanted: XdpMode): AttachMode | null {
  const found = xdp.mode === "generic" ? "generic" : "native";
  return xdp.programId !== 0 && (wanted === "auto" || wanted === found) ? found : null;
}

/** Swaps the program under a live link; null when the link leads nowhere, and then its pin is gone. */
function adopt(context: AttachContext, link: Link, pin: string): Attachment | null {
  const { native, pins, object, mode, log } = context;
  const attached = native.XdpLink.open(pin);
  const found = link.xdp.mode === "generic" ? "generic" : "native";
  const isWanted = mode === "auto" || mode === found;
  if (isWanted && attached.info().ifindex === link.ifindex && updateLink(attached, object)) {
    const { note, remedy } = noteOfAdopted(context, link, found);
    return { name: link.name, ifindex: link.ifindex, mode: found, adopted: true, link: attached, note, remedy };
  }
  const reason = isWanted ? "its interface is another one now" : `it is ${found}, and the config says ${mode}`;
  log.warn({ interface: link.name, reason }, "the pinned XDP link cannot be kept: attaching anew");
  attached.detach();
  attached.close();
  pins.remove(pin);
  return null;
}

/** What is live goes on, whatever is in its way: refusing it would lose all packets and not some. But it is told. */
function noteOfAdopted(
  { log, obstacle }: AttachContext, link: Link, mode: AttachMode,
): Pick<Attachment, "note" | "remedy"> {
  const before = mode === "generic" ? "was attached in generic mode before" : null;
  const against = obstacle(link, mode);
  if (against === null) return { note: before, remedy: null };
  const { found, remedy } = against;
  log.warn({ interface: link.name, mode, reason: found, remedy },
    "the XDP program that was attached before loses packets on this interface");
  return { note: `${before ?? "was attached before"}, and loses packets: ${found}`, remedy };
}

/** False when the interface is gone; its link then leads nowhere for ever. */
export function updateLink(link: XdpLink, object: BpfObject): boolean {
  try {
    link.update(object, PROGRAM);
    return true;
  } catch (error) {
    if (isNativeError(error) && error.errno === ERRNO.ENOLINK) return false;
    throw failureFrom(error);
  }
}

interface Attached {
  readonly attached: XdpLink;
  readonly mode: AttachMode;
  readonly note: string | null;
  readonly remedy: string | null;
}

function attachNew(context: AttachContext, link: Link): Attached {
  const { log, mode } = context;
  if (mode === "generic") {
    return { attached: attempt(context, link, "generic"), mode, note: "the config says so", remedy: null };
  }
  try {
    return { attached: attempt(context, link, "native"), mode: "native", note: null, remedy: null };
  } catch (error) {
    if (mode === "native" || !isFailure(error, "XDP_UNAVAILABLE")) throw error;
    const note = error.message;
    const remedy = (context.obstacle(link, "native") ?? context.obstacle(link, "refused"))?.remedy ?? null;
    const attached = attempt(context, link, "generic");
    log.warn({ interface: link.name, reason: note, remedy }, "XDP runs in generic mode on this interface, which is slower");
    return { attached, mode: "generic", note, remedy };
  }
}

/** Throws XDP_UNAVAILABLE too where packets would be lost: nobody would see why. */
function attempt({ native, object, obstacle, holder }: AttachContext, link: Link, mode: AttachMode): XdpLink {
  const against = obstacle(link, mode);
  if (against !== null) throw lossFailure(link, mode, against);
  try {
    return native.XdpLink.attach(object, PROGRAM, link.ifindex, MODES[mode]);
  } catch (error) {
    if (isNativeError(error) && (error.code === "BUSY" || error.code === "EXISTS")) throw inUse(error, link, holder(link));
    throw attachFailure(error, link, mode, mode === "native" ? obstacle(link, "refused") : null);
  }
}

function inUse(error: Error, { name, xdp }: Link, holder: Obstacle | null): Failure {
  const owner = holder?.found ?? (xdp.programId === 0 ? "another program" : `the program with id ${xdp.programId}`);
  const remedy = holder?.remedy ?? `detach it (pointsman detach --instance …, or "ip link set ${name} xdp off")`;
  return new Failure("PLANE_IN_USE", { interface: name }, `${name} runs ${owner} already: ${remedy}`, error);
}

export function lossFailure({ name }: LinkName, mode: AttachMode, { found, remedy }: Obstacle): Failure {
  return new Failure("XDP_UNAVAILABLE", { interface: name },
    `${mode} XDP on ${name} would lose packets: ${found} (${remedy})`);
}

function attachFailure(error: unknown, { name, mtu }: Link, mode: AttachMode, suspect: Obstacle | null): Failure {
  if (!isNativeError(error)) throw error;
  if (error.errno === ERRNO.ENODEV) {
    return new Failure("DEVICE_MISSING", { name }, `the interface ${name} is gone`, error);
  }
  if (error.code === "PERMISSION") return failureFrom(error) as Failure;
  const why = reasonOf(error.errno, mtu);
  return new Failure("XDP_UNAVAILABLE", { interface: name },
    `${name} refuses ${mode} XDP: ${why ?? error.message}${suspect === null ? "" : `; ${suspect.found} (${suspect.remedy})`}`, error);
}

function reasonOf(errno: number, mtu: number): string | null {
  switch (errno) {
    case ERRNO.EOPNOTSUPP: return "its driver has none";
    case ERRNO.ERANGE: return `an MTU is too large for it (here ${mtu}; on veth the peer's counts)`;
    case ERRNO.EINVAL: return `its settings do not allow it (MTU ${mtu}, large receive offload, number of queues)`;
    default: return null;
  }
}
