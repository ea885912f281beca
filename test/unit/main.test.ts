// The program as a process: signals, broken streams and exit codes. Needs the build, as its name in
// package.json does; touches loopback and directories of its own only.

import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

const MAIN = join(import.meta.dirname, "../../dist/src/main.js");
const directory = mkdtempSync(join(tmpdir(), "pm-main-"));
const config = join(directory, "c.yaml");
const env = {
  ...process.env, NO_COLOR: "1",
  POINTSMAN_RUN_DIRECTORY: join(directory, "run"), POINTSMAN_STATE_DIRECTORY: join(directory, "state"),
};
const living = new Set<ChildProcess>();

afterAll(() => {
  for (const child of living) child.kill("SIGKILL");
  rmSync(directory, { recursive: true });
});

function write(extra = ""): void {
  writeFileSync(config, `version: 1
dataplane: { mode: proxy }
observe: { listen: none }
${extra}services:
  - { name: web, address: 127.0.0.1, port: 0, protocol: tcp, forwarding: nat, health: { type: none },
      backends: [{ name: a, address: 127.0.0.2, port: 9 }] }
`.replace("port: 0", `port: ${20_000 + process.pid % 10_000}`)); // below those that the kernel gives to whoever connects
}

interface Run { readonly child: ChildProcess; readonly ended: Promise<number | null>; log(): string }

function run(...args: readonly string[]): Run {
  const child = spawn(process.execPath, [MAIN, "run", "-c", config, ...args], { env, stdio: ["ignore", "ignore", "pipe"] });
  living.add(child);
  let text = "";
  child.stderr?.on("data", (chunk: Buffer) => { text += chunk.toString(); });
  const ended = new Promise<number | null>((resolve) => {
    child.on("close", (code) => {
      living.delete(child);
      resolve(code);
    });
  });
  return { child, ended, log: () => text };
}

async function until(what: string, run: Run): Promise<void> {
  while (!run.log().includes(what)) {
    if (!living.has(run.child)) throw new Error(`ended before "${what}":\n${run.log()}`);
    await new Promise((resolve) => { run.child.stderr?.once("data", resolve); run.child.once("close", resolve); });
  }
}

function ask(args: readonly string[], stdout: "pipe" | number = "pipe"): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    env, stdio: ["ignore", stdout, "pipe"], encoding: "utf8",
  });
  return { status, stderr };
}

describe("the process", () => {
  it("ends with 1 when a start fails after its socket was opened, and leaves nothing that keeps it alive", async () => {
    write("control: { group: no-such-group-here }\n");
    const started = run();
    expect(await started.ended).toBe(1);
    expect(started.log()).toContain("no-such-group-here");
    expect(existsSync(join(directory, "run/main.sock"))).toBe(false);
  });

  it("says that its output could not be written", () => {
    write();
    if (process.platform !== "linux") return;
    const { status, stderr } = ask(["check", config], openSync("/dev/full", "w"));
    expect([status, stderr]).toEqual([1, expect.stringContaining("standard output cannot be written: ENOSPC")]);
  });

  it("refuses a second run, goes on through SIGHUP from its first moment, and ends watchers without a reader quietly", async () => {
    write();
    const first = run();
    await until("the data plane is open", first);
    first.child.kill("SIGHUP"); // before "running"
    await until("reloaded: nothing to change", first);
    const second = ask(["run", "-c", config]);
    expect(second.status).toBe(1);
    expect(second.stderr).toContain(`process ${first.child.pid}`);
    const watcher = spawn("sh", ["-c", `{ "$0" "$1" events --watch; echo "ended $?" >&2; } | head -1`, process.execPath, MAIN],
      { env, stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    watcher.stderr.on("data", (chunk: Buffer) => { said += chunk.toString(); });
    const over = new Promise((resolve) => { watcher.on("close", resolve); });
    // Its reader leaves with the first line; of what comes then it notices at the second write at the latest.
    for (let n = 0; n < 20 && !said.includes("ended"); n += 1) {
      ask([n % 2 === 0 ? "drain" : "undrain", "web/a"]);
      await new Promise((resolve) => { setImmediate(resolve); });
    }
    watcher.kill("SIGKILL");
    await over;
    expect(said).toBe("ended 0\n");
    first.child.kill("SIGTERM");
    expect(await first.ended).toBe(0);
  }, 60_000);
});
