// `upgrade`: asks the running process to hand over to a new one, and waits until that one answers. Knows the
// client; the new process is the old one's to start, so this command's own version does not matter.

import type { Command } from "commander";
import type { Client, Identity } from "../api/client.ts";
import { Failure, isFailure } from "../errors.ts";
import type { Common, End } from "./command.ts";
import { command, withClient } from "./command.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { pause } from "./nouns.ts";
import { parseDuration } from "./table.ts";

interface UpgradeFlags extends Common {
  readonly drain?: string;
}

export function addUpgrade(program: Command, io: Io, end: End): void {
  command(program, "upgrade", "have a new process, of what is installed now, take over from the running one", {
    output: true,
    instance: true,
  })
    .option("--drain <duration>", "how long open connections may go on in the old process (10m);"
      + " as dataplane.proxy.drainTimeout says unless given")
    .action(async (options: UpgradeFlags) => {
      end(await withClient(io, options, (client) => upgradeVerb(io, client, options)));
    });
}

const ASK_AGAIN_MS = 50;
const SILENCE_MAX_MS = 60_000;
/** When the answer comes, milliseconds are left: an old process that answers later goes on. */
const OLD_MAX_MS = 5000;
const DRAIN_MAX_MS = 7 * 24 * 3_600_000;

function drainOf(text: string): number {
  const ms = parseDuration(text);
  if (ms !== null && ms <= DRAIN_MAX_MS) return ms;
  throw new Failure("REQUEST_INVALID", { path: "drain" },
    `--drain: "${text}" is not a duration up to 7d, such as 0s, 90s or 10m`);
}

async function upgradeVerb(io: Io, client: Client, options: UpgradeFlags): Promise<number> {
  const drainMs = options.drain === undefined ? null : drainOf(options.drain);
  const before = await client.identity();
  const { pid } = await client.upgrade({ actor: io.actor, drainMs });
  const after = await waitFor(io, client, pid);
  if (options.output === "json") {
    const from = { pid: before.pid, version: before.version };
    const to = { pid, version: after?.version ?? null };
    io.out(`${JSON.stringify({ instance: before.instance, from, to, done: after !== null }, null, 2)}\n`);
  }
  if (after === null) {
    io.err(`${before.instance}: process ${pid} has not taken over; see pointsman status and the log\n`);
    return EXIT.failure;
  }
  if (options.output === "table") {
    io.out(`${before.instance}: process ${pid} (version ${after.version}) has taken over from ${before.pid}`
      + ` (version ${before.version}), whose open connections may end by themselves\n`);
  }
  return EXIT.done;
}

/** Null: the old one answers again, or nobody does. */
async function waitFor(io: Io, client: Client, pid: number): Promise<Identity | null> {
  const { clock } = io.env;
  const startMs = clock.monotonicMs();
  for (;;) {
    const status = await ask(client);
    if (status?.pid === pid) return status;
    const patienceMs = status === null ? SILENCE_MAX_MS : OLD_MAX_MS;
    if (clock.monotonicMs() - startMs >= patienceMs || !(await pause(io, ASK_AGAIN_MS))) return null;
  }
}

async function ask(client: Client): Promise<Identity | null> {
  try {
    return await client.identity();
  } catch (error) {
    const isBetween = isFailure(error, "INSTANCE_NOT_RUNNING") || isFailure(error, "HAND_OVER_UNDER_WAY")
      || (error instanceof Error && "code" in error);
    if (isBetween) return null;
    throw error;
  }
}
