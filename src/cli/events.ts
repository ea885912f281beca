// The noun `events`: what happened, a line each, and with --watch each new one as it happens. Knows the client and how
// events are laid out; must never know what made one happen.

import type { Client } from "../api/client.ts";
import type { PointsmanEvent } from "../api/schemas.ts";
import { probesIn } from "../api/schemas_events.ts";
import { layProbe } from "../health/transcript.ts";
import type { Io } from "./io.ts";
import type { NounOptions } from "./nouns.ts";
import { dateTime } from "./table.ts";

export interface EventsOptions extends NounOptions {
  readonly since: number;
  /** With what the probes found. */
  readonly verbose: boolean;
}

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
    const events = await client.recentEvents(options.since);
    io.out(
      options.output === "json"
        ? `${JSON.stringify(events, null, 2)}\n`
        : events.map(lay).join("") || "no events\n",
    );
    return;
  }
  for await (const event of client.events({ since: options.since, signal: io.interrupted })) {
    io.out(options.output === "json" ? `${JSON.stringify(event)}\n` : lay(event));
  }
}
