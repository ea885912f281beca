// The names under which an instance's maps and links outlive their owner, in bpffs. Knows directories
// and names; knows no map's content. A directory is complete when `settings` is pinned, which is why
// that is pinned last and unpinned first.
//
// A plane that is to take another one's place stands beside it under the same name with a number, until it is complete,
// has the interfaces' links, and the other one is gone: then it gets the name.

import type { Env } from "../../env.ts";
import type { RingClass } from "./ring_class.ts";

/** Where bpffs is, unless POINTSMAN_BPFFS says otherwise. */
export const BPFFS = "/sys/fs/bpf";
/** What is not yet in its place. Neither instances nor maps have a plus sign in their names. */
const NEW = "+new";
const NUMBER = "+";
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
  regionsPath(id: number): string;
  /** Numbers of the tables of regions. */
  regions(): number[];
  /** What the maps' entries are made of. */
  layoutPath(): string;
  linkPath(interfaceName: string): string;
  links(): string[];
  remove(path: string): void;
  /** Removes every name, the links' first: packets pass before any map goes. */
  removeAll(): void;
}

/** Where an instance's plane is. */
export function pinsOf(env: Env, instance: string): Pins {
  return pinsAt(env, pinName(instance));
}

export interface Places {
  readonly current: Pins;
  /** Those that were to take its place, in the order in which they were begun. */
  readonly beside: readonly Pins[];
  /** Nobody's yet. */
  readonly next: Pins;
}

export function placesOf(env: Env, instance: string): Places {
  const prefix = `${pinName(instance)}${NUMBER}`;
  const parent = parentOf(env);
  const names = env.files.exists(parent) ? env.files.list(parent) : [];
  const numbers = names.filter((name) => name.startsWith(prefix) && /^\d+$/.test(name.slice(prefix.length)))
    .map((name) => Number(name.slice(prefix.length))).sort((a, b) => a - b);
  return {
    current: pinsOf(env, instance), beside: numbers.map((number) => pinsAt(env, `${prefix}${number}`)),
    next: pinsAt(env, `${prefix}${(numbers.at(-1) ?? 0) + 1}`),
  };
}

/** Those of an instance that exist, whole or not. */
export function everyPins(env: Env, instance: string): Pins[] {
  const { current, beside } = placesOf(env, instance);
  return [current, ...beside].filter(({ directory }) => env.files.exists(directory));
}

/** Everybody who has something pinned, in the order of their names. */
export function instancesPinned(env: Env): string[] {
  const parent = parentOf(env);
  const names = env.files.exists(parent) ? env.files.list(parent) : [];
  return [...new Set(names.map((name) => nameOfPin(name.split(NUMBER)[0]!)))].sort();
}

/** The plane that packets are served by, as far as it can be told from names; null: there is none. */
export function livePins(env: Env, instance: string): Pins | null {
  const { current, beside } = placesOf(env, instance);
  return current.isComplete() ? current : beside.filter((each) => each.isComplete()).at(-1) ?? null;
}

/**
 * Ends what an owner left undone who died while one plane took another one's place. Answers with planes that may have
 * packets' news: some interfaces may have been theirs.
 */
export function settle(env: Env, { current, beside }: Places): Pins[] {
  const whole = beside.filter((each) => each.isComplete());
  if (!current.isComplete()) {
    const heir = whole.at(-1);
    for (const each of beside) if (each !== heir) each.removeAll();
    if (heir !== undefined) takePlace(env, current, heir);
    else if (env.files.exists(current.directory)) current.removeAll();
    return [];
  }
  for (const each of beside) {
    if (whole.includes(each)) moveLinks(env, each, current);
    else each.removeAll();
  }
  return whole;
}

/** Names only: what an interface runs is the link's own business. */
export function moveLinks({ files }: Env, from: Pins, to: Pins): void {
  for (const name of from.links()) files.rename(from.linkPath(name), to.linkPath(name));
}

/** The heir has all links, or this is where packets begin to pass by. */
export function takePlace({ files }: Env, current: Pins, heir: Pins): void {
  if (files.exists(current.directory)) current.removeAll();
  files.rename(heir.directory, current.directory);
}

function parentOf(env: Env): string {
  return `${bpffsRoot(env)}/pointsman`;
}

function pinsAt(env: Env, name: string): Pins {
  const { files } = env;
  const parent = parentOf(env);
  const directory = `${parent}/${name}`;
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
    regionsPath: (id) => path(`regions-${id}`),
    regions: () => named("regions-").filter((name) => /^\d+$/.test(name)).map(Number),
    layoutPath: () => path("layout"),
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
