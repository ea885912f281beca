// The switches of the packet path: the variables in .rodata that are set before it is loaded. Knows
// where an object file says they are; knows no feature by name.

import { readFileSync } from "node:fs";
import { btfOfObject, dataSectionNamed, typeAt } from "../../src/dataplane/xdp/btf.ts";
import type { BpfObject } from "../../src/dataplane/xdp/native.ts";

/** What the names of switches begin with whose absence makes a program smaller. */
const SHRINKING = /^(feature|ring_class)_/;

const WAYS = ["feature_l2", "feature_ipip", "feature_gue", "feature_gre"];

export type Switches = Readonly<Record<string, boolean>>;

/** All of these, off. */
export function off(...names: readonly string[]): Switches {
  return Object.fromEntries(names.map((name) => [name, false]));
}

/** The names of the features that an object can do without. */
export function featuresOf(path: string): string[] {
  return [...offsets(path).keys()].filter((name) => SHRINKING.test(name));
}

/** Before `object`, which was opened from `path`, is loaded. */
export function setSwitches(object: BpfObject, path: string, switches: Switches): void {
  const rodata = object.section(".rodata");
  if (rodata === null) throw new Error(`${path} has no .rodata`);
  const known = offsets(path);
  for (const [name, on] of Object.entries(switches)) {
    const offset = known.get(name);
    if (offset === undefined) throw new Error(`${path} has no switch ${name}`);
    rodata[offset] = on ? 1 : 0;
  }
  object.setSection(".rodata", rodata);
}

/** One way of forwarding without more, and what a tunnel may want beside. */
export function smallPlanes(path: string): Switches[] {
  const all = featuresOf(path);
  const only = (...names: readonly string[]): Switches =>
    off(...all.filter((name) => !names.includes(name)));
  return [
    ...all
      .filter((name) => WAYS.includes(name))
      .map((way) => only(way, "ring_class_medium")),
    only("feature_gue", "feature_tracking", "feature_orphan", "ring_class_medium"),
  ];
}

function offsets(path: string): Map<string, number> {
  const btf = btfOfObject(new Uint8Array(readFileSync(path)));
  const section = dataSectionNamed(btf, ".rodata");
  const found = new Map<string, number>();
  for (const { type, offset } of section?.variables ?? []) {
    const variable = typeAt(btf, type);
    if (variable.kind === "var") found.set(variable.name, offset);
  }
  return found;
}
