// What systemd is told of the process. It listens where the unit says NotifyAccess=all, to a socket that Node
// cannot write to: systemd-notify does. Knows the protocol of sd_notify(3); nothing of what runs.

import type { Env } from "../env.ts";

const NOTIFY_TIMEOUT_MS = 10_000;

type Host = Pick<Env, "exec" | "log" | "variables">;

/** `systemctl start` of a unit with Type=notify waits for it; other units need no such word. */
export async function tellReady(env: Host): Promise<void> {
  const told = await notify(env, "READY=1");
  if (told.how === "failed") {
    env.log.warn({ reason: told.reason }, "systemd could not be told that this process is ready: with Type=notify it will give up waiting");
  }
}

/** True when systemd knows the other process as the main one of its unit. */
export async function tellMainProcess(env: Host, pid: number): Promise<boolean> {
  const told = await notify(env, `MAINPID=${pid}`);
  if (told.how === "failed") {
    env.log.warn({ successor: pid, reason: told.reason },
      "systemd could not be told of the new main process: this one stays until that one ends");
  }
  return told.how === "told";
}

type Told = { readonly how: "told" | "nobody listens" } | { readonly how: "failed"; readonly reason: string };

async function notify(env: Host, assignment: string): Promise<Told> {
  const socket = env.variables["NOTIFY_SOCKET"];
  if (socket === undefined || socket === "") return { how: "nobody listens" };
  const { status, stderr } = await env.exec.run("systemd-notify", [assignment], NOTIFY_TIMEOUT_MS);
  if (status === 0) return { how: "told" };
  const reason = stderr.trim();
  return { how: "failed", reason: reason === "" ? `systemd-notify ended with status ${status}` : reason };
}
