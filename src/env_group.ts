// Runs a command of somebody else's in a process group of its own, and leaves nothing of it behind: the group is
// killed when it has ended, and at a signal. Part of the real Env; must never know what is run.

import { spawn, type ChildProcess } from "node:child_process";
import type { Readable } from "node:stream";
import type { Exec } from "./env.ts";

const OUTPUT_MAX_BYTES = 64 * 1024;
/** As shells tell them. */
const STATUS_NOT_RUN = 127;
const STATUS_NOT_ALLOWED = 126;
const STATUS_SIGNAL = 128;
/** A process that has left the group may hold the output open; nobody waits for it. */
const OUTPUT_PATIENCE_MS = 200;
/** Of the signals that end a process, by their numbers; any other is told as the first. */
const SIGNALS: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15 };

export const runGroup: Exec["runGroup"] = (command, args, { variables, signal }) => new Promise((resolve) => {
  let child: ChildProcess;
  try {
    child = spawn(command, [...args], { detached: true, stdio: ["ignore", "pipe", "pipe"], env: { ...variables } });
  } catch (error) {
    resolve({ status: STATUS_NOT_RUN, stdout: "", stderr: error instanceof Error ? error.message : String(error) });
    return;
  }
  const kill = (): void => { killGroup(child); };
  const [stdout, stderr] = [listen(child.stdout), listen(child.stderr)];
  let timer: NodeJS.Timeout | undefined;
  const end = (status: number, said: string | null = null): void => {
    signal.removeEventListener("abort", kill);
    clearTimeout(timer);
    child.stdout?.destroy();
    child.stderr?.destroy();
    resolve({ status, stdout: stdout(), stderr: said ?? stderr() });
  };
  child.once("error", (error: NodeJS.ErrnoException) => {
    end(error.code === "EACCES" ? STATUS_NOT_ALLOWED : STATUS_NOT_RUN, error.message);
  });
  const statusOf = (code: number | null, by: NodeJS.Signals | null): number => code ?? STATUS_SIGNAL + (SIGNALS[by ?? ""] ?? 1);
  child.once("exit", (code, by) => {
    kill();
    timer = setTimeout(() => { end(statusOf(code, by)); }, OUTPUT_PATIENCE_MS);
  });
  child.once("close", (code, by) => { end(statusOf(code, by)); });
  if (signal.aborted) kill();
  else signal.addEventListener("abort", kill, { once: true });
});

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch { /* nobody is left in it */ }
}

/** Reads to the end, and keeps the start. */
function listen(stream: Readable | null): () => string {
  const kept: Buffer[] = [];
  let size = 0;
  stream?.on("error", () => { /* the other end is gone */ });
  stream?.on("data", (chunk: Buffer) => {
    const part = chunk.subarray(0, Math.max(0, OUTPUT_MAX_BYTES - size));
    size += part.length;
    if (part.length > 0) kept.push(part);
  });
  return () => Buffer.concat(kept).toString();
}
