// Processes of probes: so many at once, each ended with all that it has started when its probe is over. Knows Env
// alone; must never know what is run.

import type { Env } from "../../env.ts";
import type { Attempt, Verdict } from "./attempt.ts";

/** They cost more than sockets do. */
const PROCESSES_MAX = 32;
/** What a process finds of our environment. */
const PASSED_ON = ["PATH", "TZ"] as const;
const PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly variables: Readonly<Record<string, string>>;
  /** For the reason of a timeout. */
  readonly stage: string;
}

/** First come, first served. */
export class ProcessSlots {
  readonly #waiting = new Set<() => void>();
  #free: number;

  constructor(most = PROCESSES_MAX) {
    this.#free = most;
  }

  /** Calls back when there is one, perhaps at once; what is returned gives up waiting. */
  take(begin: () => void): () => void {
    if (this.#free > 0) {
      this.#free -= 1;
      begin();
      return () => undefined;
    }
    this.#waiting.add(begin);
    return () => { this.#waiting.delete(begin); };
  }

  give(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#free += 1;
    else {
      this.#waiting.delete(next);
      next();
    }
  }
}

export interface ProcessDoors extends Pick<Env, "exec" | "variables"> {
  readonly processes: ProcessSlots;
}

/** What of our environment a command finds in its own. */
export function passedOn(ours: Env["variables"]): Record<string, string> {
  const named = PASSED_ON.flatMap((name) => {
    const value = ours[name] ?? (name === "PATH" ? PATH_DEFAULT : undefined);
    return value === undefined ? [] : [[name, value] as const];
  });
  return { ...Object.fromEntries(named), LC_ALL: "C" };
}

/** Of what a command has said; null: nothing. */
export function firstLine(text: string): string | null {
  return text.split("\n").find((line) => line.trim() !== "") ?? null;
}

export function runProcess(
  doors: ProcessDoors, attempt: Attempt, { command, args, variables, stage }: Command, judge: (ended: Ended) => Verdict,
): void {
  const abort = new AbortController();
  // Whoever waits for us to have room has done nothing wrong.
  attempt.isOurs = true;
  attempt.stage = "waiting for other probes' processes to end";
  let leave: () => void = () => undefined;
  attempt.release = () => {
    leave();
    abort.abort();
  };
  leave = doors.processes.take(() => {
    attempt.isOurs = false;
    attempt.stage = stage;
    const settings = { variables: { ...passedOn(doors.variables), ...variables }, signal: abort.signal };
    void doors.exec.runGroup(command, args, settings).then((ended) => {
      doors.processes.give();
      attempt.end(judge(ended));
    });
  });
}
