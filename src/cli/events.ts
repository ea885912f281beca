// The noun `events`: what happened, a line each, and with --watch each new one as it happens. Knows the client and how
// events are laid out; must never know what made one happen.
//
// Whoever watches does so through restarts and upgrades of the instance: a lost connection is made again, and goes on
// after the last event heard.

import type { Client } from "../api/client.ts";
import type { PointsmanEvent } from "../api/schemas.ts";
import { probesIn } from "../api/schemas_events.ts";
import { partsOf } from "../api/sse.ts";
import { isFailure } from "../errors.ts";
import { layProbe } from "../health/transcript.ts";
import type { Io } from "./io.ts";
import { pause, type NounOptions } from "./nouns.ts";
import { dateTime } from "./table.ts";

export interface EventsOptions extends NounOptions {
  readonly since: number;
  /** With what the probes found. */
  readonly verbose: boolean;
  /** None: of every kind. */
  readonly kind: readonly string[];
  /** "web/web-1", "web" with all its backends, or a backend's bare name. None: of everything. */
  readonly subject: readonly string[];
}

/** Between tries to connect anew: doubled up to the second. */
const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 10_000;
/** A socket that is new is given to its group a moment later; who is denied more often in a row is meant. */
const DENIALS_MAX = 5;

export function layEvent(event: PointsmanEvent): string {
  return `${dateTime(event.atMs)}  ${event.kind.padEnd(10)}  ${event.subject}: ${event.message}\n`;
}

/** The probes that led to it, a line each. */
export function layTranscript({ fields }: PointsmanEvent): string {
  return probesIn(fields).map((probe) => `    ${dateTime(probe.atMs)}  ${layProbe(probe)}\n`).join("");
}

/** Recent events, and with --watch each new one as it happens. */
export async function printEvents(io: Io, client: Client, options: EventsOptions): Promise<void> {
  const lay = (event: PointsmanEvent): string => layEvent(event) + (options.verbose ? layTranscript(event) : "");
  if (!options.watch) {
    const events = (await client.recentEvents(options.since)).filter((event) => isWanted(event, options));
    io.out(
      options.output === "json"
        ? `${JSON.stringify(events, null, 2)}\n`
        : events.map(lay).join("") || "no events\n",
    );
    return;
  }
  await watch(io, client, options.since, (event) => {
    if (isWanted(event, options)) io.out(options.output === "json" ? `${JSON.stringify(event)}\n` : lay(event));
  });
}

function isWanted({ kind, subject }: PointsmanEvent, wanted: Pick<EventsOptions, "kind" | "subject">): boolean {
  const isNamed = (name: string): boolean => subject === name || subject.startsWith(`${name}/`) || subject.endsWith(`/${name}`);
  return (wanted.kind.length === 0 || wanted.kind.includes(kind)) && (wanted.subject.length === 0 || wanted.subject.some(isNamed));
}

/** Until interrupted. Throws where nobody answers at first, and what another try will not mend. */
async function watch(io: Io, client: Client, since: number, tell: (event: PointsmanEvent) => void): Promise<void> {
  const { clock } = io.env;
  let after: string | null = null;
  let delayMs = RETRY_MIN_MS;
  const link = { openedAtMs: null as number | null, isLost: false, denials: 0 };
  const isMended = (error: unknown): boolean => link.openedAtMs !== null
    && (isFailure(error, "INSTANCE_NOT_RUNNING") || (isFailure(error, "PERMISSION_DENIED") && ++link.denials <= DENIALS_MAX));
  const onOpen = (): void => {
    link.openedAtMs = clock.monotonicMs();
    if (link.isLost) io.err("pointsman: connected again\n");
    link.isLost = false;
    link.denials = 0;
  };
  for (;;) {
    try {
      for await (const { place, event } of client.events({ since, after, signal: io.interrupted, onOpen })) {
        const missed = whatIsMissing(after, place);
        if (missed !== null) io.err(`pointsman: ${missed}\n`);
        after = place;
        tell(event);
      }
    } catch (error) {
      if (!isMended(error)) throw error;
    }
    if (io.interrupted.aborted) return;
    // One that ends each connection at once is not asked at the fast pace for ever.
    if (!link.isLost && clock.monotonicMs() - (link.openedAtMs ?? Infinity) >= RETRY_MAX_MS) delayMs = RETRY_MIN_MS;
    if (!link.isLost) io.err("pointsman: the connection is lost; trying again\n");
    link.isLost = true;
    if (!(await pause(io, delayMs))) return;
    delayMs = Math.min(2 * delayMs, RETRY_MAX_MS);
  }
}

/** Between two events that were heard one after the other; null: nothing. */
function whatIsMissing(before: string | null, now: string): string | null {
  const [last, next] = [before === null ? null : partsOf(before), partsOf(now)];
  if (last === null || next === null) return null;
  const isSame = last.life === next.life;
  const count = next.number - (isSame ? last.number : 0) - 1;
  const lost = count === 0 ? null : `${count} ${count === 1 ? "event is" : "events are"} lost: the instance did not keep them`;
  if (isSame) return lost;
  const anew = "the instance has begun anew, and so have its events; the last ones before that may be missing";
  return lost === null ? anew : `${anew}, and ${lost}`;
}
