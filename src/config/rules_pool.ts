// Cross-field rules about who takes flows by who else is up: priorities, and what they are measured by. Each is a
// function of the draft. Must never know which plane will run.

import { neededOf } from "../model/pool_rules.ts";
import type { Draft, DraftBackend, DraftPool } from "./draft.ts";
import { valueAt } from "./explain.ts";
import { nearest } from "./known.ts";
import { quoted } from "./problem.ts";
import { readMinimum } from "./formats_pool.ts";
import type { Finding } from "./problem.ts";
import { error, poolUses, serviceName, warning } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";

/** What `config show --effective` prints of every backend. */
const DEFAULTS = { weight: 100, priority: 0 } as const;

/** Those of the ring. */
const membersOf = ({ backends, rules }: DraftPool): readonly DraftBackend[] =>
  (backends ?? []).filter(({ fields }) => fields.name === undefined || fields.name !== rules.sorry);

const priorityOf = ({ fields }: DraftBackend): number => fields.priority ?? 0;

/** Those with a weight, first priority first; none where something does not parse. */
function groupsOf(pool: DraftPool): DraftBackend[][] {
  const weighed = membersOf(pool).filter(({ fields }) => fields.weight !== 0);
  const priorities = [...new Set(weighed.map(priorityOf))].sort((a, b) => a - b);
  return priorities.map((priority) => weighed.filter((each) => priorityOf(each) === priority));
}

/** A minimum that those before a priority cannot reach makes its backends no reserves. */
function* reserves(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    const place = [...pool.path, "reserves", "minimum"];
    const groups = groupsOf(pool);
    if (groups.length < 2) {
      // The default is what `config show --effective` prints of every pool.
      if (pool.rules.reserves !== undefined && pool.rules.reserves.minimum !== 1)
        yield warning([...pool.path, "reserves"], "no backend is a reserve", "give some of them a priority of 1 or more");
      continue;
    }
    const minimum = readMinimum(pool.rules.reserves?.minimum ?? 1);
    let before = 0;
    for (const group of groups) {
      if (before > 0 && neededOf(minimum, before) > before) {
        yield warning(place, `there are ${before} backends before priority ${priorityOf(group[0]!)}, so it always takes flows`,
          `say ${before} or less, or a share such as 50%`);
        break;
      }
      before += group.length;
    }
  }
}

/** The pool would panic while it has reserves that are not asked. */
function* panicBeforeReserves(draft: Draft): Iterable<Finding> {
  for (const [pool, service] of poolUses(draft)) {
    const panicBelow = service?.fields.panicBelow ?? 0;
    const groups = groupsOf(pool);
    if (service === null || panicBelow === 0 || groups.length < 2) continue;
    const first = groups[0]!.length;
    if (neededOf(readMinimum(pool.rules.reserves?.minimum ?? 1), first) * 100 >= panicBelow * first) continue;
    yield warning([...service.path, "panicBelow"],
      `${serviceName(service)} may panic at ${panicBelow}% before the reserves of its pool are asked`,
      `say reserves: { minimum: ${panicBelow}% } in the pool`);
  }
}

function* sorries(draft: Draft): Iterable<Finding> {
  for (const [pool, service] of poolUses(draft)) {
    const { backends, rules: { sorry } } = pool;
    if (typeof sorry !== "string" || backends === null) continue;
    const place = [...pool.path, "sorry"];
    const names = backends.map(({ fields }) => fields.name).filter((name) => name !== undefined);
    const found = backends.find(({ fields }) => fields.name === sorry);
    if (found === undefined) {
      const meant = nearest(sorry, names);
      yield error(place, `the pool has no backend ${quoted(sorry)}`,
        meant === null ? "name one that is in its list of backends" : `did you mean ${quoted(meant)}?`);
      continue;
    }
    if (membersOf(pool).every(({ fields }) => fields.weight === 0))
      yield error(place, "the pool has no other backend with a positive weight", "it would always be the one that says sorry");
    for (const key of ["weight", "priority"] as const) {
      const value = valueAt(draft.root, [...found.path, key]);
      if (value === undefined || value === DEFAULTS[key]) continue;
      yield { ...warning([...found.path, key], `ignored: ${sorry} only says sorry`), at: "key" };
    }
    const { failOpen, panicBelow = 0 } = service?.fields ?? {};
    if (service === null || (failOpen !== true && panicBelow === 0)) continue;
    const why = failOpen === true ? "failOpen" : "panicBelow";
    yield warning([...service.path, why], `with ${why} the sorry backend of the pool gets flows only when all others are drained`,
      "use one or the other");
  }
}

/** What the local zone is measured by has to be there. */
function* zones(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    const { spillBelow } = pool.rules;
    const members = membersOf(pool).filter(({ fields }) => fields.weight !== 0);
    if (spillBelow === undefined || spillBelow === null || draft.zone === undefined) continue;
    const place = [...pool.path, "spillBelow"];
    if (draft.zone === null) {
      yield warning(place, "this instance is in no zone, and all backends take part", "say zone: NAME at the top of the file");
      continue;
    }
    const { zone } = draft;
    if (members.length > 0 && members.every(({ fields }) => fields.zone !== zone))
      yield warning(place, `no backend is in zone ${zone}, and all of them take part`, "give those that are near a zone");
    for (const { path, fields } of members) {
      if (fields.zone !== null) continue;
      yield { ...warning(path, "a backend without a zone counts as one of another zone", `such as zone: ${zone}`), at: "key" };
    }
  }
}

function* quorums(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    const { quorum } = pool.rules;
    const size = membersOf(pool).filter(({ fields }) => fields.weight !== 0).length;
    if (quorum === undefined || quorum === null || pool.backends === null || size === 0) continue;
    if (neededOf(readMinimum(quorum.minimum), size) <= size) continue;
    yield warning([...pool.path, "quorum", "minimum"], `the pool has ${size} backends with a weight, and its quorum is never met`,
      `say ${size} or less, or a share such as 50%`);
  }
}

/** With a pool of its own name, the service's own keys are nobody's. */
function* rulesOfNamedPools(draft: Draft): Iterable<Finding> {
  for (const { fields, path, inlines } of draft.services) {
    if (fields.pool === undefined && fields.split === undefined) continue;
    for (const key of inlines.rules)
      yield { ...error([...path, key], "this belongs to the pool", "move it there"), at: "key" };
  }
}

export const POOL_RULES: readonly Rule[] = [reserves, panicBeforeReserves, sorries, zones, quorums, rulesOfNamedPools];
