// The verbs that override what the config and the probes say of a backend, on the command line: their options
// and help. Knows commander; changes.ts and drain.ts do the work.

import type { Command } from "commander";
import type { OverrideView } from "../api/schemas.ts";
import type { Client } from "../api/client.ts";
import { durationOf, overrideVerb, printRemoved } from "./changes.ts";
import type { Common, End, Output } from "./command.ts";
import { command, wholeNumber, withClient } from "./command.ts";
import { waitForDrain } from "./drain.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";

interface OverrideFlags extends Common {
  readonly reason?: string;
  readonly for?: string;
  readonly force: boolean;
}

interface DrainFlags extends OverrideFlags {
  readonly timeout?: string;
  readonly wait: boolean;
}

function flagsOf(options: OverrideFlags): { output: Output; reason: string | null; expires: string | null; force: boolean } {
  return { output: options.output, force: options.force, reason: options.reason ?? null, expires: options.for ?? null };
}

export function addOverrides(program: Command, io: Io, end: End): void {
  const override = (name: string, description: string): Command =>
    command(program, name, description, { output: true, instance: true })
      .option("--reason <text>", "why, for those who read `status`")
      .option("--for <duration>", "until when: 90s, 10m, 1h30m; for ever unless given")
      .option("--force", "also where the pool then has fewer backends up than its quorum asks for", false);
  override("drain <backend>", "give a backend no new flows; it keeps those it has")
    .option("--timeout <duration>", "end the flows that are left then; unless given, they may take for ever")
    .option("--wait", "report the flows that are left, and end when none is", false)
    .action(async (backend: string, options: DrainFlags) => {
      end(await withClient(io, options, (client) => drainVerb(io, client, backend, options)));
    });
  override("maintenance <backend>", "give a backend no flows at all, end those it has, and do not probe it").action(
    async (backend: string, options: OverrideFlags) => {
      end(await withClient(io, options, async (client) => {
        await overrideVerb(io, client, backend, { kind: "maintenance" }, flagsOf(options));
        return EXIT.done;
      }));
    },
  );
  override("weight <backend>", "override a backend's weight")
    .argument("<weight>", "0 takes no slots", wholeNumber(0, 65535))
    .action(async (backend: string, weight: number, options: OverrideFlags) => {
      end(await withClient(io, options, async (client) => {
        await overrideVerb(io, client, backend, { kind: "weight", weight }, flagsOf(options));
        return EXIT.done;
      }));
    });
  command(program, "undrain <backend>", "end a backend's drain or maintenance (or: ready): it takes new flows again", {
    output: true,
    instance: true,
  })
    .alias("ready")
    .action(async (backend: string, options: Common) => {
      end(await withClient(io, options, (client) => undrainVerb(io, client, backend, options)));
    });
}

async function drainVerb(io: Io, client: Client, backend: string, options: DrainFlags): Promise<number> {
  const timeoutMs = options.timeout === undefined ? undefined : durationOf("timeout", options.timeout);
  const change = timeoutMs === undefined ? { kind: "drain" as const } : { kind: "drain" as const, timeoutMs };
  // Programs that read what `--wait` prints get objects of one form.
  const isQuiet = options.wait && options.output === "json";
  const set = await overrideVerb(io, client, backend, change, flagsOf(options), isQuiet);
  return options.wait ? await waitForDrain(io, client, set, options.output) : EXIT.done;
}

async function undrainVerb(io: Io, client: Client, backend: string, options: Common): Promise<number> {
  const removed: OverrideView[] = [];
  for (const kind of ["drain", "maintenance"] as const)
    removed.push(...(await client.clearOverrides({ target: backend, kind, actor: io.actor })));
  return printRemoved(io, removed, options.output);
}
