// Commands that are told of a pool's quorum: each change once, one command of a pool at a time, killed with all that
// it has started when its time is over. Knows Env and what it is told; must never judge a quorum itself.

import type { Env } from "../env.ts";
import { firstLine, passedOn } from "../health/probes/process.ts";
import type { Intent } from "../model/table.ts";
import { Quorums, tellQuorum } from "./quorums.ts";
import type { QuorumChange } from "./quorums.ts";

/** Quorums whose changes are recorded and told to commands. */
export type QuorumWatch = Pick<Quorums, "found" | "look" | "stop">;

export interface QuorumWatchOptions {
  readonly env: Pick<Env, "clock" | "exec" | "log" | "variables">;
  readonly execHooks: boolean;
  readonly intent: () => Intent;
  readonly isServing: () => boolean;
  readonly record: (kind: "health", subject: string, message: string, fields: object) => void;
}

export function watchQuorums({ env, execHooks, intent, isServing, record }: QuorumWatchOptions): QuorumWatch {
  const hooks = new QuorumHooks({
    env, isAllowed: execHooks, record: (pool, message, fields) => { record("health", pool, message, fields); },
  });
  const quorums = new Quorums({
    env, intent, isServing, onChange: (change) => {
      tellQuorum(change, env.log, record);
      hooks.tell(change);
    },
  });
  return {
    found: () => quorums.found(),
    look: () => { quorums.look(); },
    stop: () => {
      quorums.stop();
      hooks.stop();
    },
  };
}

export interface QuorumHooksOptions {
  readonly env: Pick<Env, "clock" | "exec" | "log" | "variables">;
  readonly isAllowed: boolean;
  readonly record: (pool: string, message: string, fields: object) => void;
}

interface Running {
  readonly abort: AbortController;
  readonly isMet: boolean;
  /** What has been found meanwhile. */
  next: QuorumChange | null;
}

export class QuorumHooks {
  readonly #options: QuorumHooksOptions;
  readonly #running = new Map<string, Running>();
  #isStopped = false;

  constructor(options: QuorumHooksOptions) {
    this.#options = options;
  }

  /** Of what comes while a command runs the last counts, and nothing where that one was told the same. */
  tell(change: QuorumChange): void {
    const { name } = change.pool;
    const running = this.#running.get(name);
    if (running === undefined) this.#start(change);
    else running.next = change.isMet === running.isMet ? null : change;
  }

  /** Ends what runs. */
  stop(): void {
    this.#isStopped = true;
    for (const { abort } of this.#running.values()) abort.abort();
  }

  #start(change: QuorumChange): void {
    const { pool: { name, quorum }, isMet, up, total, needed } = change;
    const argv = (isMet ? quorum?.up : quorum?.down) ?? [];
    const [command, ...args] = argv;
    if (command === undefined || quorum === null || this.#isStopped) return;
    const which = `quorum.${isMet ? "up" : "down"}`;
    if (!this.#options.isAllowed) {
      this.#tell(name, `${which} is not run: commands of quorums are not allowed, begin with run --exec-hooks`, { command });
      return;
    }
    const { clock, exec, variables } = this.#options.env;
    const running: Running = { abort: new AbortController(), isMet, next: null };
    this.#running.set(name, running);
    let isLate = false;
    const cancel = clock.after(quorum.timeoutMs, () => {
      isLate = true;
      running.abort.abort();
    });
    const settings = {
      variables: {
        ...passedOn(variables), POINTSMAN_POOL: name, POINTSMAN_QUORUM: isMet ? "up" : "down",
        POINTSMAN_UP: String(up), POINTSMAN_TOTAL: String(total), POINTSMAN_NEEDED: String(needed),
      },
      signal: running.abort.signal,
    };
    void exec.runGroup(command, args, settings).then(({ status, stdout, stderr }) => {
      cancel();
      this.#running.delete(name);
      if (this.#isStopped) return;
      const said = (firstLine(stderr) ?? firstLine(stdout))?.trim().slice(0, 200) ?? null;
      if (isLate) this.#tell(name, `${which} was killed after ${quorum.timeoutMs} ms`, { command, said });
      else if (status === 0) this.#options.record(name, `${which} has run`, { command, said });
      else this.#tell(name, `${which} failed with status ${status}${said === null ? "" : `: ${said}`}`, { command, said });
      if (running.next !== null) this.#start(running.next);
    });
  }

  #tell(pool: string, message: string, fields: object): void {
    this.#options.env.log.warn({ pool, ...fields }, `pool ${pool}: ${message}`);
    this.#options.record(pool, message, fields);
  }
}
