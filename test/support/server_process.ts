// Servers that others wrote, for probes to ask: each in a directory of its own, on the loopback, ended with its
// whole process group and gone with the directory. Knows processes; must never know a protocol.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chownSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe } from "vitest";
import { long } from "./counts.ts";
import { describeFailing, missing, type Need } from "./kernel.ts";

const PATIENCE_MS = 60_000;

/**
 * Part of `npm run test:long`, where `npm run setup -- --with servers` has been; where tests are required, one that is
 * missing there is a failure.
 */
export function describeServer(title: string, tool: string, body: () => void): void {
  const need: Need = `peer:${tool}`;
  const reason = long() ? missing(need) : "servers of others are part of `npm run test:long`";
  if (reason === null) describe(title, body);
  else if (long() && process.env["KERNEL_TESTS"] === "required") describeFailing(title, reason);
  else describe.skip(`${title} [skipped: ${reason}]`, body);
}

/** Uid and gid of a user that a server insists on; null where we may not choose. */
function identityOf(user: string | null): { readonly uid: number; readonly gid: number } | null {
  if (user === null || process.getuid?.() !== 0) return null;
  const [uid, gid] = ["-u", "-g"].map((flag) => Number(spawnSync("id", [flag, user], { encoding: "utf8" }).stdout));
  return uid === undefined || gid === undefined ? null : { uid, gid };
}

export class ServerProcess {
  /** All that it has, writable by it. */
  readonly directory: string;
  readonly #identity: { readonly uid: number; readonly gid: number } | null;
  #child: ChildProcess | null = null;

  /** `user`: who it runs as where we are root; null: as we do. */
  constructor(name: string, user: string | null = null) {
    this.directory = mkdtempSync(join(tmpdir(), `pointsman-${name}-`));
    this.#identity = identityOf(user);
    if (this.#identity !== null) chownSync(this.directory, this.#identity.uid, this.#identity.gid);
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** A command that ends. */
  prepare(command: string, ...args: readonly string[]): void {
    const ended = spawnSync(command, args, { cwd: this.directory, encoding: "utf8", ...this.#identity, timeout: PATIENCE_MS });
    if (ended.status !== 0) throw new Error(`${command} failed: ${ended.stderr}${ended.stdout}${ended.error?.message ?? ""}`);
  }

  /** Begins it. */
  launch(command: string, ...args: readonly string[]): void {
    const log = openSync(this.path("output"), "a");
    const child = spawn(command, args, {
      cwd: this.directory, detached: true, stdio: ["ignore", log, log], ...this.#identity,
    });
    child.on("error", () => { /* told by who waits for it */ });
    closeSync(log);
    this.#child = child;
  }

  /** Begins it, and waits until it takes connections. */
  async start(port: number, command: string, ...args: readonly string[]): Promise<void> {
    this.launch(command, ...args);
    const deadlineMs = Date.now() + PATIENCE_MS;
    while (!(await takesConnections(port))) {
      if (this.#child?.exitCode !== null || Date.now() > deadlineMs) {
        throw new Error(`${command} does not listen on port ${port}: ${readFileSync(this.path("output"), "utf8")}`);
      }
      await new Promise((resolve) => { setTimeout(resolve, 20); });
    }
  }

  /** Safe to repeat; the directory stays. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => { child.once("exit", resolve); });
    const group = -child.pid;
    process.kill(group, signal);
    const timer = setTimeout(() => { process.kill(group, "SIGKILL"); }, 10_000);
    await ended;
    clearTimeout(timer);
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.once("connect", () => { socket.destroy(); resolve(true); });
    socket.once("error", () => { resolve(false); });
  });
}
