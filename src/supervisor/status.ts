// The status of an instance, put together from what its parts say. Knows values only; must never ask a
// plane, a clock or a file.

import type { OverrideView, ProblemView, Status } from "../api/schemas.ts";
import type { Counters, PlaneChoice } from "../dataplane/dataplane.ts";
import type { ApplyState } from "../api/schemas.ts";
import { describeEnd } from "../health/probes/certificate.ts";
import { amountOf, sumsByKind } from "../model/held_flows.ts";
import { ruledPools } from "../model/pool_rules.ts";
import { crowdedAffinities, forgettingFlows, pressureOf } from "../observe/pressure.ts";
import { warningsFor } from "./accepted.ts";
import type { InForce } from "./engine.ts";
import { poolViews, quorumWarnings } from "./pool_views.ts";
import type { ViewInput } from "./view.ts";
import { backendViews, serviceViews } from "./view.ts";

export interface StatusInput extends ViewInput {
  readonly version: string;
  readonly pid: number;
  readonly startedAtMs: number;
  readonly atMs: number;
  readonly choice: PlaneChoice;
  readonly inForce: InForce;
  readonly file: string | null;
  readonly fileDiffers: boolean | null;
  readonly problems: readonly ProblemView[];
  readonly reasons: readonly string[];
  readonly lastApply: ApplyState | null;
  /** By pool; null: not known yet. */
  readonly quorums: ReadonlyMap<string, boolean | null>;
  readonly stateTroubles: readonly string[];
  readonly overrides: readonly OverrideView[];
}

export function describeStatus(input: StatusInput): Status {
  const { plane, table, choice, inForce, now } = input;
  const ruled = ruledPools(input.intent);
  const pools = poolViews(input, ruled);
  return {
    instance: inForce.accepted.config.instance,
    version: input.version,
    pid: input.pid,
    startedAtMs: input.startedAtMs,
    uptimeMs: Math.max(0, input.atMs - input.startedAtMs),
    mode: plane.mode,
    plane: { ...choice, attempts: choice.attempts.map((each) => ({ ...each })) },
    adopted: plane.adopted,
    interfaces: plane.interfaces.map((each) => ({ ...each })),
    refusedInterfaces: [...plane.refused].map(([name, reason]) => ({ name, reason })),
    hashSeed: inForce.accepted.seed.from,
    config: {
      file: input.file,
      revision: inForce.revision,
      loadedAtMs: inForce.loadedAtMs,
      fileDiffers: input.fileDiffers,
      problems: [...input.problems],
    },
    ready: input.reasons.length === 0,
    reasons: [...input.reasons],
    warnings: [
      ...warningsFor(inForce.accepted, plane.mode),
      ...table?.warnings ?? [],
      ...quorumWarnings(pools),
      ...input.stateTroubles,
      ...endingCertificates(input),
      ...silentBackends(now.counters),
      ...[forgettingFlows(now.counters), crowdedAffinities(now.counters)].filter((each) => each !== null),
    ],
    generation: table?.generation ?? 0,
    lastApply: input.lastApply,
    flows: sumsByKind([...now.counters.serviceFlows.values()].map(amountOf)),
    flowTable: { ...now.counters.flowTable },
    pressure: pressureOf(now.counters),
    nat: natView(now.counters),
    affinities: affinitiesView(now.counters),
    services: serviceViews(input),
    pools,
    backends: backendViews(input, ruled),
    overrides: [...input.overrides],
  };
}

function endingCertificates({ certificates, atMs }: StatusInput): string[] {
  return [...certificates].filter(([, { isDue }]) => isDue)
    .map(([name, { endsAtMs }]) => `${name}: ${describeEnd(endsAtMs, atMs)}`);
}

function natView({ nat }: Counters): Status["nat"] {
  return nat === undefined ? null : { count: nat.count, max: nat.max };
}

function affinitiesView({ affinities }: Counters): Status["affinities"] {
  return affinities === undefined ? null : { count: affinities.count, max: affinities.max };
}

/** Backends that answer none of their translated flows: their answers go another way, or nowhere. */
function silentBackends({ nat, backendFlows }: Counters): string[] {
  return [...nat?.unanswered ?? []].filter(([name, flows]) => flows >= (backendFlows.get(name)?.count ?? 0)).map(([name, flows]) =>
    `${name}: none of its ${flows} translated flow(s) got an answer through this host;`
    + " is the way from the backend to the clients this host, and does the backend listen? (doctor --return-path tells)");
}
