// The verbs that change a running instance's config or its overrides: check, plan, apply, reload,
// rollback, drain, maintenance, undrain, weight, overrides clear. Knows the client and how to lay out its answers.

import type { Client } from "../api/client.ts";
import type { ApplyResult, ConfigRequest, OverrideRequest, OverrideView, Plan } from "../api/schemas.ts";
import { problemsToFailure } from "../config/problem_lines.ts";
import { decodeText } from "../config/text.ts";
import { Failure, isFailure } from "../errors.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { flowsLegend, layFlows } from "./flows.ts";
import { duration, parseDuration, percent, table } from "./table.ts";

/** Above which `apply` asks first, on a terminal: of a service's slots, and of the flows there are. */
export const ASK_ABOVE = { movedShare: 0.2, brokenShare: 0.01 } as const;

/** A file's bytes, or standard input's for `-`; FILE_UNREADABLE when there are none. */
export function readGivenFile(io: Io, file: string): Uint8Array {
  const path = file === "-" ? "/dev/stdin" : file;
  let bytes: Uint8Array | null;
  try {
    bytes = io.env.files.read(path);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Failure("FILE_UNREADABLE", { path }, `cannot read ${path}: ${why}`, error);
  }
  if (bytes === null) throw new Failure("FILE_UNREADABLE", { path }, `there is no file ${path}`);
  return bytes;
}

/** As the API takes it. Bytes that are no text would arrive as others: they are refused here. */
function requestFrom(io: Io, file: string): ConfigRequest {
  const bytes = readGivenFile(io, file);
  const decoded = decodeText(bytes);
  if ("text" in decoded) return { name: file, text: decoded.text, actor: io.actor };
  throw problemsToFailure(file, [{ severity: "error", file, path: "", ...decoded.problem }]);
}

export function layPlan(plan: Plan): string {
  if (!plan.changed) return "nothing would change\n";
  const replaces = plan.replacesPlane === null ? "" : `the data plane would be replaced: ${plan.replacesPlane}\n`;
  const steps =
    plan.steps.length === 0
      ? ""
      : table(
          ["step", "object", "detail"],
          plan.steps.map((step) => [step.action, step.object, step.detail]),
        );
  const moved = table(
    ["service", "change", "slots moved", "of", "share", "would break"],
    plan.services.map((each) =>
      [each.service, each.change, each.slotsMoved, each.ringSize, percent(each.share), percent(each.brokenShare)]),
  );
  const flows = layMovedFlows(plan.flows);
  const warnings = plan.warnings.map((warning) => `warning: ${warning}\n`).join("");
  return `${replaces}${steps}${steps === "" ? "" : "\n"}${moved}${flows}${warnings}`;
}

function layMovedFlows({ moved, broken, total }: Plan["flows"]): string {
  return `live flows that would move: ${layFlows(moved)} of ${layFlows(total)}, and break: ${layFlows(broken)}\n`
    + flowsLegend([moved, broken, total]);
}

/** What a person should agree to first, or null. */
function whyAsk({ services, flows, replacesPlane }: Plan): string | null {
  const old = services.filter(({ change }) => change !== "added");
  const moved = Math.max(0, ...old.map(({ share }) => share));
  const broken = Math.max(0, ...old.map(({ brokenShare }) => brokenShare));
  const { broken: { count: lost }, total: { count: all } } = flows;
  const ofFlows = lost === null || all === null || all === 0 ? 0 : lost / all;
  if (replacesPlane !== null) return `The data plane would be replaced: ${replacesPlane}.`;
  if (broken > ASK_ABOVE.brokenShare) return `Connections in ${percent(broken)} of a service's slots would break.`;
  if (ofFlows > ASK_ABOVE.brokenShare) return `${percent(ofFlows)} of the live flows would break.`;
  return moved > ASK_ABOVE.movedShare ? `${percent(moved)} of a service's slots would move.` : null;
}

export interface PlanOptions {
  readonly output: "table" | "json";
  readonly exitCode: boolean;
}

export async function planVerb(io: Io, client: Client, file: string, options: PlanOptions): Promise<number> {
  const plan = await client.plan(requestFrom(io, file));
  io.out(options.output === "json" ? `${JSON.stringify(plan, null, 2)}\n` : layPlan(plan));
  return options.exitCode && plan.changed ? EXIT.changes : EXIT.done;
}

function layApplied(result: ApplyResult): string {
  const head = result.changed
    ? `revision ${result.revision}: ${result.steps} steps in ${result.durationMs.toFixed(1)} ms\n`
    : `revision ${result.revision}: nothing to change\n`;
  const failed = result.failed.map(({ service, reason }) => `not served: ${service}: ${reason}\n`).join("");
  return head + failed + result.warnings.map((warning) => `warning: ${warning}\n`).join("");
}

export async function applyVerb(
  io: Io,
  client: Client,
  file: string,
  options: { readonly output: "table" | "json"; readonly yes: boolean },
): Promise<number> {
  const request = requestFrom(io, file);
  const plan = await client.plan(request);
  const why = whyAsk(plan);
  if (io.isTty && !options.yes && why !== null) {
    io.out(layPlan(plan));
    if (!(await io.confirm(`${why} Apply?`))) {
      io.err("nothing was applied\n");
      return EXIT.failure;
    }
  }
  return printApplied(io, await client.apply(request), options.output);
}

export function printApplied(io: Io, result: ApplyResult, output: "table" | "json"): number {
  io.out(output === "json" ? `${JSON.stringify(result, null, 2)}\n` : layApplied(result));
  return result.failed.length === 0 ? EXIT.done : EXIT.failure;
}

export interface OverrideOptions {
  readonly output: "table" | "json";
  readonly reason: string | null;
  /** "10m", or null: until cleared. */
  readonly expires: string | null;
  /** Without asking, and without being refused for a quorum. */
  readonly force: boolean;
}

export async function overrideVerb(
  io: Io,
  client: Client,
  target: string,
  change: OverrideView["change"],
  options: OverrideOptions,
  isQuiet = false,
): Promise<OverrideView> {
  const expiresInMs = options.expires === null ? null : durationOf("for", options.expires);
  const request = { target, change, actor: io.actor, reason: options.reason, expiresInMs };
  const set = options.force ? await client.override({ ...request, force: true }) : await overrideUnlessRefused(io, client, request);
  if (isQuiet) return set;
  if (options.output === "json") io.out(`${JSON.stringify(set, null, 2)}\n`);
  else {
    const until = set.expiresAtMs === null ? "until cleared" : `for ${duration(set.expiresAtMs - set.atMs)}`;
    io.out(`${set.target}: ${doing(change)} ${until}\n`);
  }
  return set;
}

/** Asks on a terminal where a quorum is at stake; else that is for --force to say. Throws BELOW_QUORUM. */
async function overrideUnlessRefused(io: Io, client: Client, request: OverrideRequest): Promise<OverrideView> {
  try {
    return await client.override(request);
  } catch (error) {
    if (!isFailure(error, "BELOW_QUORUM")) throw error;
    if (!io.isTty) throw new Failure("BELOW_QUORUM", error.details, `${error.message}; nothing was changed (--force does it)`);
    if (!(await io.confirm(`${error.message}. Go on?`))) throw new Failure("BELOW_QUORUM", error.details, "nothing was changed");
    return await client.override({ ...request, force: true });
  }
}

function doing(change: OverrideView["change"]): string {
  if (change.kind === "weight") return `weight ${change.weight}`;
  if (change.kind === "maintenance") return "in maintenance";
  return change.timeoutMs === undefined ? "draining" : `draining, at most ${duration(change.timeoutMs)},`;
}

const EXPIRY_DAYS_MAX = 3650;

/** Of `--for` and `--timeout`. Throws REQUEST_INVALID. */
export function durationOf(option: "for" | "timeout", text: string): number {
  const ms = parseDuration(text);
  if (ms !== null && ms > 0 && ms <= EXPIRY_DAYS_MAX * 86_400_000) return ms;
  throw new Failure("REQUEST_INVALID", { path: option === "for" ? "expires" : "timeout" },
    `--${option}: "${text}" is not a duration from 1ms to ${EXPIRY_DAYS_MAX}d, such as 90s, 10m or 1h30m`
    + (option === "for" ? " (without --for the override stays until cleared)"
      : " (without --timeout the flows may take for ever)"));
}

export function printRemoved(io: Io, removed: readonly OverrideView[], output: "table" | "json"): number {
  if (output === "json") io.out(`${JSON.stringify(removed, null, 2)}\n`);
  else if (removed.length === 0) io.out("there was nothing to clear\n");
  else for (const each of removed) io.out(`${each.target}: ${each.change.kind} cleared\n`);
  return EXIT.done;
}
