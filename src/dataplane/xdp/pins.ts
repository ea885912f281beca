// The names under which an instance's maps and links outlive their owner, in bpffs. Knows directories
// and names; knows no map's content. A directory is complete when `settings` is pinned, which is why
// that is pinned last and unpinned first.

import type { Env } from "../../env.ts";
import type { RingClass } from "./ring_class.ts";

/** Where bpffs is, unless POINTSMAN_BPFFS says otherwise. */
export const BPFFS = "/sys/fs/bpf";
/** What is not yet in its place. */
const NEW = "+new";
const LAST = "map-settings";

/** bpffs has no dots in names, and interfaces and instances may; neither has a per cent sign. */
export function pinName(name: string): string {
  return name.replaceAll(".", "%2e");
}

function nameOfPin(pin: string): string {
  return pin.replaceAll("%2e", ".");
}

export function bpffsRoot(env: Env): string {
  return env.variables["POINTSMAN_BPFFS"] ?? BPFFS;
}

export interface Pins {
  readonly directory: string;
  /** True when a plane is there; a half-made one counts as none. */
  isComplete(): boolean;
  create(): void;
  mapPath(name: string): string;
  /** Where a map waits that takes the place of another one. */
  newMapPath(name: string): string;
  /** Puts it there, in one step. */
  replaceMap(name: string): void;
  has(path: string): boolean;
  ringPath(ringClass: RingClass, id: number): string;
  rings(): { readonly ringClass: RingClass; readonly id: number }[];
  linkPath(interfaceName: string): string;
  links(): string[];
  remove(path: string): void;
  /** Removes every name, the links' first: packets pass before any map goes. */
  removeAll(): void;
}

export function pinsOf(env: Env, instance: string): Pins {
  const { files } = env;
  const parent = `${bpffsRoot(env)}/pointsman`;
  const directory = `${parent}/${pinName(instance)}`;
  const path = (name: string): string => `${directory}/${name}`;
  const named = (prefix: string): string[] => files.list(directory)
    .filter((name) => name.startsWith(prefix) && !name.endsWith(NEW)).map((name) => name.slice(prefix.length));
  return {
    directory,
    isComplete: () => files.exists(path(LAST)),
    create: () => { files.makeDirectory(directory, 0o700); },
    mapPath: (name) => path(`map-${name}`),
    newMapPath: (name) => path(`map-${name}${NEW}`),
    replaceMap: (name) => { files.rename(path(`map-${name}${NEW}`), path(`map-${name}`)); },
    has: (pin) => files.exists(pin),
    ringPath: (ringClass, id) => path(`ring-${ringClass}-${id}`),
    rings: () => named("ring-").flatMap((name) => {
      const match = /^(small|medium|large)-(\d+)$/.exec(name);
      return match === null ? [] : [{ ringClass: match[1] as RingClass, id: Number(match[2]) }];
    }),
    linkPath: (name) => path(`link-${pinName(name)}`),
    links: () => named("link-").map(nameOfPin),
    remove: (pin) => { files.remove(pin); },
    removeAll: () => {
      const names = files.list(directory);
      const rank = (name: string): number => name.startsWith("link-") ? 0 : name === LAST ? 1 : 2;
      for (const name of names.sort((a, b) => rank(a) - rank(b))) files.remove(path(name));
      files.remove(directory);
      // The parent belongs to all instances: it goes with the last one.
      if (files.list(parent).length === 0) files.remove(parent);
    },
  };
}
