// The switches of the packet path: the variables in .rodata that are set before it is loaded. Knows
// where an object file says they are; knows no feature by name.

import { readFileSync } from "node:fs";
import { btfOfObject, dataSectionNamed, typeAt } from "../../src/dataplane/xdp/btf.ts";
import type { BpfObject } from "../../src/dataplane/xdp/native.ts";

/** What the names of switches begin with whose absence makes a program smaller. */
const SHRINKING = /^(feature|ring_class)_/;

export type Switches = Readonly<Record<string, boolean>>;

/** All of these, off. */
export function off(...names: readonly string[]): Switches {
  return Object.fromEntries(names.map((name) => [name, false]));
}

/** What small planes look like: l2 without more, ipip without more; nothing at all comes too. */
export const SMALL_PLANES: readonly Switches[] = [
  off(
    "feature_ipip",
    "feature_tracking",
    "feature_policy",
    "feature_source_hash",
    "feature_orphan",
    "ring_class_small",
    "ring_class_large",
  ),
  off(
    "feature_l2",
    "feature_policy",
    "feature_source_hash",
    "ring_class_small",
    "ring_class_large",
  ),
  { transmit_by_redirect: true },
];

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
