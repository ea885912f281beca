// explain, ring and the offline plan: questions that the model answers, from a running instance or from
// a file. Knows how to lay the answers out.

import type { Client } from "../api/client.ts";
import type { Explanation, RingReport } from "../api/schemas_questions.ts";
import { Failure } from "../errors.ts";
import { compile } from "../model/compile.ts";
import { EMPTY_LEDGER } from "../model/table.ts";
import { movedFlows, movements } from "../supervisor/movements.ts";
import { answerExplain, answerRing } from "../supervisor/questions.ts";
import { layPlan } from "./changes.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { offlineIntent } from "./offline.ts";
import { percent, table } from "./table.ts";

interface Options {
  readonly output: "table" | "json";
  readonly config?: string;
  readonly hashSeed?: string;
}
type Ask = <T>(use: (client: Client) => Promise<T>) => Promise<T>;

/** Rings do not depend on the flow hash, nor do two plans with the same one differ by it. */
const ANY_SEED = "0".repeat(16);
const NOTHING_YET = { ledger: EMPTY_LEDGER, generation: 0 };

/** A running instance answers by the seed that it has. */
function refuseSeedWithoutFile({ config, hashSeed }: Options): void {
  if (config !== undefined || hashSeed === undefined) return;
  throw new Failure("REQUEST_INVALID", { path: "hash-seed" },
    `--hash-seed goes with -c FILE; the running instance knows its own, so ${hashSeed} would mean nothing`);
}

function layExplanation(answer: Explanation): string {
  const width = Math.max(...answer.steps.map(({ step }) => step.length));
  const steps = answer.steps.map(({ step, detail }) => `  ${step.padEnd(width)}  ${detail}\n`).join("");
  const end =
    answer.backend === null ? "nobody" : `${answer.backend} (${answer.destination ?? ""}, ${answer.forwarding})`;
  return `${answer.client} → ${answer.service}: ${end}\n${steps}`;
}

export async function explainVerb(
  io: Io,
  client: string,
  service: string,
  options: Options & { readonly connectionId?: string; readonly to?: string },
  ask: Ask,
): Promise<number> {
  const { connectionId, to = null } = options;
  const request = { client, service, to, ...(connectionId === undefined ? {} : { connectionId }) };
  let answer: Explanation;
  refuseSeedWithoutFile(options);
  if (options.config === undefined) answer = await ask((instance) => instance.explain(request));
  else {
    const intent = await offlineIntent(io, options.config, options.hashSeed);
    answer = answerExplain(compile(intent, NOTHING_YET), intent.config, request);
  }
  io.out(options.output === "json" ? `${JSON.stringify(answer, null, 2)}\n` : layExplanation(answer));
  return EXIT.done;
}

function layRing(report: RingReport): string {
  const off = Math.max(0, ...report.backends.map(({ slots, ideal }) => Math.abs(slots - ideal)));
  const busiest = Math.max(
    0,
    ...report.backends.filter(({ ideal }) => ideal > 0).map(({ slots, ideal }) => slots / ideal),
  );
  return `${report.service}: ${report.size} slots\n${table(
    ["backend", "weight", "slots", "share", "ideal"],
    report.backends.map((each) => [each.name, each.weight, each.slots, percent(each.share), each.ideal.toFixed(1)]),
  )}furthest from its ideal: ${off.toFixed(1)} slots; busiest: ${busiest.toFixed(4)} of its ideal\n`;
}

export interface RingOptions extends Options {
  readonly down: readonly string[];
  readonly remove: readonly string[];
}

export async function ringVerb(io: Io, service: string, options: RingOptions, ask: Ask): Promise<number> {
  refuseSeedWithoutFile(options);
  const { down, remove } = options;
  const alter = (
    from: readonly string[],
    without: readonly string[],
  ): { service: string; down: string[]; remove: string[] } => ({ service, down: [...from], remove: [...without] });
  let answer: (request: ReturnType<typeof alter>) => Promise<RingReport>;
  if (options.config === undefined) answer = (request) => ask((instance) => instance.ring(request));
  else {
    const intent = await offlineIntent(io, options.config, options.hashSeed ?? ANY_SEED);
    answer = (request) => Promise.resolve(answerRing(intent, request));
  }
  const report = await answer(alter(down, remove));
  if (options.output === "json") {
    io.out(`${JSON.stringify(report)}\n`);
    return EXIT.done;
  }
  io.out(layRing(report));
  if (down.length + remove.length > 0) io.out(layDisruption(await answer(alter([], [])), report));
  return EXIT.done;
}

/** Slots whose backend changed: those of the backends that went must move, any other is disruption. */
function layDisruption(before: RingReport, after: RingReport): string {
  const still = new Set(after.backends.filter(({ slots }) => slots > 0).map(({ name }) => name));
  let had = 0;
  let foreign = 0;
  before.slots.forEach((owner, slot) => {
    if (owner === null) return;
    if (!still.has(owner)) had++;
    else if (after.slots[slot] !== owner) foreign++;
  });
  if (still.size === 0) return `nobody is left for the ${before.size} slots\n`;
  return (
    `slots of the backends that are out: ${had} (${percent(had / before.size)}), all lent or given to others\n` +
    `slots of other backends that moved: ${foreign} (${percent(foreign / before.size)})\n`
  );
}

/** What a change of files would move, with all backends healthy. Ends with 3 under --exit-code when anything would. */
export async function offlinePlanVerb(
  io: Io,
  from: string,
  to: string,
  options: { readonly output: "table" | "json"; readonly exitCode: boolean },
): Promise<number> {
  const before = compile(await offlineIntent(io, from, ANY_SEED), NOTHING_YET);
  const intent = await offlineIntent(io, to, ANY_SEED);
  const after = compile(intent, before);
  const mode = intent.config.dataplane.mode === "proxy" ? "proxy" : "xdp";
  const services = movements(before, after, mode);
  const plan = {
    changed: services.some(({ change }) => change !== "unchanged"),
    steps: [],
    services,
    flows: movedFlows(before, after, null, mode),
    replacesPlane: null,
    warnings: [...after.warnings],
  };
  io.out(options.output === "json" ? `${JSON.stringify(plan, null, 2)}\n` : layPlan(plan));
  return options.exitCode && plan.changed ? EXIT.changes : EXIT.done;
}
