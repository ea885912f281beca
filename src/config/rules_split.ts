// Cross-field rules about a service whose traffic is split: whether its parts make a whole, and who they
// are. Each rule is a function of the draft. Must never look at one field alone.

import { isPickAlgorithm } from "../model/pick.ts";
import { SPLIT_WHOLE } from "../model/split.ts";
import type { Draft, DraftService } from "./draft.ts";
import { pathText, quoted } from "./problem.ts";
import type { Finding, Path } from "./problem.ts";
import { error, repeats, warning } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";

interface DraftSubset {
  readonly path: Path;
  readonly name: string;
  readonly pool: string;
  readonly hundredths: number;
}

function subsetsOf({ path, fields }: DraftService): DraftSubset[] {
  return (fields.split ?? []).map(({ name, pool, percent }, index) =>
    ({ path: [...path, "split", index], name: name ?? pool, pool, hundredths: Math.round(percent * 100) }));
}

function* wholes(draft: Draft): Iterable<Finding> {
  for (const service of draft.services) {
    if (service.fields.split === undefined) continue;
    const sum = subsetsOf(service).reduce((total, { hundredths }) => total + hundredths, 0);
    if (sum === SPLIT_WHOLE) continue;
    const off = Math.abs(sum - SPLIT_WHOLE) / 100;
    yield error([...service.path, "split"], `the percentages add up to ${sum / 100}, not to 100`,
      `${off} too ${sum < SPLIT_WHOLE ? "little" : "much"}`);
  }
}

function* distinctSubsets(draft: Draft): Iterable<Finding> {
  for (const service of draft.services) {
    const subsets = subsetsOf(service);
    for (const [subset, before] of repeats(subsets, ({ name }) => name)) {
      yield error(subset.path, `the name ${quoted(subset.name)} is taken by ${pathText(before.path)}`, "give it another name");
    }
    for (const [subset, before] of repeats(subsets, ({ pool }) => pool)) {
      yield error([...subset.path, "pool"], `the pool ${quoted(subset.pool)} is that of ${pathText(before.path)} already`,
        "add the percentages up, or make a pool of the backends that this part is for");
    }
  }
}

/** A border between slots is where the division puts it, to the nearest one. */
function* slotlessSubsets(draft: Draft): Iterable<Finding> {
  for (const service of draft.services) {
    const { ringSize } = service.fields;
    if (ringSize === undefined) continue;
    for (const { path, hundredths } of subsetsOf(service)) {
      const slots = (hundredths * ringSize) / SPLIT_WHOLE;
      if (hundredths === 0 || slots >= 1) continue;
      yield warning([...path, "percent"], `${hundredths / 100}% is less than one slot of ${ringSize}; it may get none`,
        "raise it, or the ringSize");
    }
  }
}

/** What is drawn, or picked by load, is drawn from everybody. */
function* pickedSubsets(draft: Draft): Iterable<Finding> {
  for (const { path, fields: { algorithm, split } } of draft.services) {
    if (split === undefined || algorithm === undefined || !isPickAlgorithm(algorithm)) continue;
    yield error([...path, "split"], `a split is a division of the slots, and ${algorithm} places each flow whatever its slot is`,
      "use algorithm: maglev or consistent-hash");
  }
}

export const SPLIT_RULES: readonly Rule[] = [wholes, distinctSubsets, slotlessSubsets, pickedSubsets];
