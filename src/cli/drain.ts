// `drain --wait`: asks how far a drain has come, tells people and programs, and ends when it has ended.
// Knows the client; whether a drain is over is the supervisor's word. Breaking off ends the waiting alone.

import type { Client } from "../api/client.ts";
import type { DrainView, OverrideView } from "../api/schemas.ts";
import { isFailure } from "../errors.ts";
import { describeRest } from "../supervisor/drains.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { pause } from "./nouns.ts";
import { amount, duration } from "./table.ts";

const ASK_AGAIN_MS = 500;
/** An instance that is being restarted is waited for. */
const SILENCE_MAX_MS = 60_000;
const REWRITE = "\r\u001b[K";

/** Prints what changes: on a terminal one line that is rewritten, else a line each; `-o json` an object each. */
class Report {
  readonly #io: Io;
  readonly #isJson: boolean;
  #last = "";
  #isOpen = false;

  constructor(io: Io, isJson: boolean) {
    this.#io = io;
    this.#isJson = isJson;
  }

  tell(drain: DrainView): void {
    if (this.#isJson) {
      const text = JSON.stringify(drain);
      if (text !== this.#last) this.#io.out(`${text}\n`);
      this.#last = text;
      return;
    }
    const text = layDrain(drain);
    const left = drain.deadlineAtMs === null || drain.end !== null ? ""
      : `; ${duration(Math.max(0, drain.deadlineAtMs - this.#io.env.clock.wallMs()))} left`;
    if (this.#io.isTty) this.#io.out(`${REWRITE}${`${text}${left}`.slice(0, Math.max(20, this.#io.columns - 1))}`);
    else if (text !== this.#last) this.#io.out(`${text}${left}\n`);
    this.#last = text;
    this.#isOpen = this.#io.isTty;
  }

  /** A line of its own, whatever was rewritten before. */
  close(): void {
    if (this.#isOpen) this.#io.out("\n");
    this.#isOpen = false;
  }
}

/** What a drain says of itself, without the time that passes. */
export function layDrain(drain: DrainView): string {
  const { target, flows: { count, kind }, end } = drain;
  if (end === "empty") return `${target}: drained, no flow is left (${kind})`;
  if (end === "deadline") return `${target}: drained, its time is over: ${describeRest(drain)}`;
  if (count === null) return `${target}: draining, nobody can tell how many flows are left (unknown)`;
  const unsure = count === 0 && kind === "estimated" ? ", until all that may be silent have had their time" : "";
  return `${target}: draining, ${amount(count)} flow(s) left (${kind})${unsure}`;
}

/** Until the drain `set` has ended. 1: it was broken off, here or there. */
export async function waitForDrain(
  io: Io, client: Client, set: OverrideView, output: "table" | "json",
): Promise<number> {
  const { clock } = io.env;
  const report = new Report(io, output === "json");
  let heardAtMs = clock.monotonicMs();
  for (;;) {
    const drains = await ask(client);
    if (drains !== null) {
      heardAtMs = clock.monotonicMs();
      const drain = drains.find(({ target, startedAtMs }) => target === set.target && startedAtMs === set.atMs);
      if (drain === undefined) {
        report.close();
        io.err(`${set.target}: the drain was cleared, replaced or has expired before its end\n`);
        return EXIT.failure;
      }
      report.tell(drain);
      if (drain.end !== null) {
        report.close();
        return EXIT.done;
      }
    } else if (clock.monotonicMs() - heardAtMs >= SILENCE_MAX_MS) {
      report.close();
      io.err(`${set.target}: the instance has been silent for ${duration(SILENCE_MAX_MS)}; ${STAYS}\n`);
      return EXIT.failure;
    }
    if (!(await pause(io, ASK_AGAIN_MS))) {
      report.close();
      io.err(`${set.target}: no longer waiting; ${STAYS}\n`);
      return EXIT.failure;
    }
  }
}

const STAYS = "the drain stays in force (undrain ends it)";

/** Null: nobody answers, as while the supervisor is being restarted. */
async function ask(client: Client): Promise<readonly DrainView[] | null> {
  try {
    return await client.drains();
  } catch (error) {
    const isGone = isFailure(error, "INSTANCE_NOT_RUNNING")
      || (error instanceof Error && "code" in error && LOST.has(String(error.code)));
    if (isGone) return null;
    throw error;
  }
}

/** The connection ended while an answer was awaited. */
const LOST: ReadonlySet<string> = new Set(["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"]);
