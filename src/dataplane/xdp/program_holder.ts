// Whose program an interface runs: this instance's own, another instance's, or a stranger's. Knows pins, and what
// the kernel says of links; changes nothing.

import type { Env } from "../../env.ts";
import type { Obstacle } from "./finding.ts";
import type { Native, XdpLinkInfo } from "./native.ts";
import type { Link } from "./netlink/rtnetlink.ts";
import { everyPins, instancesPinned, type Pins } from "./pins.ts";

/** Who has pinned the link by which an interface runs its program. */
export interface ProgramHolder {
  readonly instance: string;
  /** What the interface was called when it was attached. */
  readonly pinnedFor: string;
}

type Held = Pick<Link, "name" | "ifindex" | "xdp">;

/** Null: it runs none, or one that no instance has pinned whose names can be read. */
export function holderOf(native: Native, env: Env, instance: string, held: Held): ProgramHolder | null {
  if (held.xdp.programId === 0) return null;
  const others = ifReadable(() => instancesPinned(env).filter((each) => each !== instance));
  for (const each of [instance, ...others]) {
    for (const pins of ifReadable(() => everyPins(env, each))) {
      const isOwn = each === instance;
      const pinnedFor = ifReadable(() => pins.links()).find((name) => isBy(native, pins, name, held, isOwn));
      if (pinnedFor !== undefined) return { instance: each, pinnedFor };
    }
  }
  return null;
}

/** Whether `run` goes on with the program that an interface has. */
export function isAdoptable(holder: ProgramHolder | null, instance: string, { name }: Pick<Link, "name">): boolean {
  return holder?.instance === instance && holder.pinnedFor === name;
}

/** What keeps this instance from attaching to an interface, when not a stranger's program, and what an operator does about it. */
export function heldBy({ instance, pinnedFor }: ProgramHolder, own: string, name: string): Obstacle {
  if (instance !== own) {
    return {
      found: `the program of the instance ${instance}`,
      remedy: `pointsman detach --instance ${instance}, or take ${name} out of dataplane.interfaces of one of the two`,
    };
  }
  return {
    found: `our own program, attached when ${name} was called ${pinnedFor}`,
    remedy: `call it ${pinnedFor} again, or pointsman detach --instance ${instance}`,
  };
}

/** Both: another namespace has interfaces with the same numbers. A link of our own that may not be asked counts by its name. */
function isBy(native: Native, pins: Pins, pinned: string, { name, ifindex, xdp }: Held, isOwn: boolean): boolean {
  const info = infoOf(native, pins.linkPath(pinned));
  return info === null ? isOwn && pinned === name : info.ifindex === ifindex && info.programId === xdp.programId;
}

/** Null where asking is refused. */
function infoOf(native: Native, path: string): XdpLinkInfo | null {
  try {
    const link = native.XdpLink.open(path);
    try {
      return link.info();
    } finally {
      link.close();
    }
  } catch {
    return null;
  }
}

/** None where bpffs may not be read. */
function ifReadable<T>(list: () => readonly T[]): readonly T[] {
  try {
    return list();
  } catch {
    return [];
  }
}
