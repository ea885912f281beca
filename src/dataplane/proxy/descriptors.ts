// How many sockets the proxy may hold. At the limit of open files libuv accepts and closes clients
// without a word, and probes, control and metrics find no descriptor either: so the proxy stops
// earlier, says so and leaves the rest of the process its share. Knows numbers; must never know a
// socket.

import type { Env } from "../../env.ts";

/** Descriptors left to the rest of the process: a quarter, but within these bounds. */
const RESERVE = { min: 64, max: 512 } as const;

export class DescriptorBudget {
  readonly max: number;
  #used = 0;

  constructor(max: number) {
    this.max = max;
  }

  has(count: number): boolean {
    return this.#used + count <= this.max;
  }

  take(count: number): void {
    this.#used += count;
  }

  give(count: number): void {
    this.#used -= count;
  }
}

/** From this process's limit of open files; without bound where it cannot be read. */
export function descriptorBudget(env: Pick<Env, "files">): DescriptorBudget {
  const limit = openFilesMax(env);
  if (limit === null) return new DescriptorBudget(Infinity);
  const reserve = Math.max(RESERVE.min, Math.min(RESERVE.max, Math.ceil(limit / 4)));
  return new DescriptorBudget(Math.max(0, limit - reserve));
}

function openFilesMax(env: Pick<Env, "files">): number | null {
  const bytes = env.files.read("/proc/self/limits");
  if (bytes === null) return null;
  const soft = /^Max open files\s+(\d+)/m.exec(Buffer.from(bytes).toString("latin1"));
  return soft === null ? null : Number(soft[1]);
}
