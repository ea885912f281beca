// Which ways of forwarding a lab test tries on this occasion. Knows the list and the counts; raises nothing.

import { LAB_WAYS, wayName } from "../../scripts/lab_coverage.ts";
import { long } from "./counts.ts";

/** In test:long all of the list, which takes a quarter of an hour; else those that are named, as "ipip/6". */
export function waysOf<K extends keyof typeof LAB_WAYS>(
  list: K, ...quick: readonly string[]
): readonly (typeof LAB_WAYS)[K][number][] {
  const ways: readonly (typeof LAB_WAYS)[K][number][] = LAB_WAYS[list];
  const names = ways.map(wayName);
  const unknown = quick.filter((name) => !names.includes(name));
  if (unknown.length > 0) throw new RangeError(`${list} has no way ${unknown.join(", ")}`);
  return long() ? ways : ways.filter((way) => quick.includes(wayName(way)));
}
