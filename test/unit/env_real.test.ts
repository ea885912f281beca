// The real Env keeps its promises: files are whole or absent, timers wait, a child's output is
// bounded.

import { execFileSync, spawn } from "node:child_process";
import {
  chmodSync, closeSync, constants, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, statSync, symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createEnv, readableLine } from "../../src/env_real.ts";

let directory: string;
beforeEach(() => { directory = mkdtempSync(join(tmpdir(), "pointsman-env-")); });
afterEach(() => { rmSync(directory, { recursive: true, force: true }); });

describe("files", () => {
  const { files } = createEnv();

  it("reads what was written, with the mode asked for whatever the umask", () => {
    const path = join(directory, "a/b/state.json");
    files.writeAtomic(path, "one", 0o666);
    files.writeAtomic(path, Uint8Array.of(1, 2, 3), 0o640);
    expect(files.read(path)).toEqual(Uint8Array.of(1, 2, 3));
    expect(files.size(path)).toBe(3);
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(statSync(join(directory, "a")).mode & 0o777).toBe(0o700);
    expect(readdirSync(join(directory, "a/b"))).toEqual(["state.json"]);
  });

  it("a device without an end is refused, and one that ends is read", () => {
    expect(() => files.read("/dev/zero")).toThrow("no end");
    expect(files.read("/dev/null")).toEqual(new Uint8Array(0));
  });

  it("a pipe is read to its end, and one that nobody writes to is not waited for", () => {
    const path = join(directory, "pipe");
    execFileSync("mkfifo", [path]);
    expect(files.read(path)).toEqual(new Uint8Array(0));
    // What is written before the read opens the pipe is lost unless somebody else has it open to read.
    const keeper = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const end = openSync(path, constants.O_WRONLY);
    const writer = spawn("sh", ["-c", "printf late >&3"], { stdio: ["ignore", "ignore", "ignore", end] });
    closeSync(end);
    expect(Buffer.from(files.read(path) ?? []).toString()).toBe("late");
    writer.kill();
    closeSync(keeper);
  });

  it("a write that cannot end leaves the old file and no rest", () => {
    const path = join(directory, "taken");
    files.makeDirectory(join(path, "full"), 0o700);
    expect(() => { files.writeAtomic(path, "x", 0o600); }).toThrow();
    expect(readdirSync(directory)).toEqual(["taken"]);
  });

  it("says null or nothing for what does not exist, and throws for the rest", () => {
    const missing = join(directory, "missing");
    expect([files.read(missing), files.size(missing), files.exists(missing)]).toEqual([null, null, false]);
    expect(files.list(missing)).toEqual([]);
    files.remove(missing);
    writeFileSync(join(directory, "file"), "x");
    expect(files.read(join(directory, "file/below"))).toBeNull();
    expect(() => files.read(directory)).toThrow("EISDIR");
  });

  it("creates a file only where there is none, and leaves no other", () => {
    const path = join(directory, "exclusive/lock");
    expect(files.createExclusive(path, "first", 0o644)).toBe(true);
    expect(files.createExclusive(path, "second", 0o644)).toBe(false);
    expect(Buffer.from(files.read(path) ?? []).toString()).toBe("first");
    expect(files.list(join(directory, "exclusive"))).toEqual(["lock"]);
  });

  it("tells what lies at a path, with owner and mode, and follows no link", () => {
    const [path, link] = [join(directory, "there"), join(directory, "link")];
    mkdirSync(path);
    chmodSync(path, 0o1775);
    symlinkSync(path, link);
    const uid = process.getuid?.() ?? -1;
    expect(files.entry(path)).toEqual({ kind: "directory", uid, mode: 0o1775 });
    expect(files.entry(link)).toMatchObject({ kind: "link", uid });
    writeFileSync(join(path, "file"), "", { mode: 0o640 });
    expect(files.entry(join(path, "file"))).toEqual({ kind: "other", uid, mode: 0o640 });
    expect(files.entry(join(path, "nothing"))).toBeNull();
  });

  it("appends, lists in order and removes", () => {
    const path = join(directory, "log/events");
    files.append(path, "one\n", 0o600);
    files.append(path, "two\n", 0o600);
    expect(Buffer.from(files.read(path) ?? []).toString()).toBe("one\ntwo\n");
    files.append(join(directory, "log/another"), "", 0o600);
    expect(files.list(join(directory, "log"))).toEqual(["another", "events"]);
    files.remove(path);
    expect(files.exists(path)).toBe(false);
    expect(() => { files.remove(directory); }).toThrow();
  });
});

describe("clock", () => {
  const { clock } = createEnv();

  it("its two monotonic readings agree, and the wall clock is the system's", () => {
    const before = Number(clock.monotonicNs()) / 1e6;
    const between = clock.monotonicMs();
    const after = Number(clock.monotonicNs()) / 1e6;
    expect(between).toBeGreaterThanOrEqual(before);
    expect(between).toBeLessThanOrEqual(after);
    expect(Math.abs(clock.wallMs() - Date.now())).toBeLessThan(60_000);
  });

  it("calls back in order, and not after a cancel, which may come twice", async () => {
    const called: string[] = [];
    const cancel = clock.after(1, () => called.push("cancelled"));
    cancel();
    cancel();
    await new Promise<void>((resolve) => {
      clock.after(30, () => { called.push("second"); resolve(); });
      clock.after(1, () => called.push("first"));
    });
    expect(called).toEqual(["first", "second"]);
  });

  it("a delay beyond setTimeout's range does not fire at once", async () => {
    let fired = false;
    const cancel = clock.after(2 ** 33, () => { fired = true; });
    await new Promise<void>((resolve) => { clock.after(30, resolve); });
    cancel();
    expect(fired).toBe(false);
  });
});

describe("exec", () => {
  const { exec } = createEnv();

  it("reports status and both outputs", async () => {
    const result = await exec.run("sh", ["-c", "echo out; echo err >&2; exit 3"], 10_000);
    expect(result).toEqual({ status: 3, stdout: "out\n", stderr: "err\n" });
  });

  it("never throws: a missing command, a timeout and endless output are statuses", async () => {
    expect((await exec.run(join(directory, "nothing"), [], 10_000)).status).toBe(127);
    expect((await exec.run("sleep", ["60"], 50)).status).toBe(137);
    const endless = await exec.run("sh", ["-c", "while :; do echo 0123456789; done"], 30_000);
    expect(endless.status).toBe(137);
    expect(endless.stdout.length).toBeLessThanOrEqual(1 << 20);
  });
});

describe("log", () => {
  it("writes one JSON object per line, above its level, which may change", () => {
    const lines: string[] = [];
    const env = createEnv({ logTo: { write: (line) => lines.push(line) } });
    env.log.debug({}, "unheard");
    env.log.warn({ service: "web", err: new Error("broken") }, "careful");
    env.setLogLevel("debug");
    env.log.debug({ count: 1 }, "heard");
    const entries = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(entries.map((e) => [e["level"], e["msg"]])).toEqual([["warn", "careful"], ["debug", "heard"]]);
    expect(entries[0]).toMatchObject({ service: "web", err: { message: "broken" } });
  });

  it("writes a readable line for people", () => {
    const lines: string[] = [];
    const env = createEnv({ logTo: { write: (line) => lines.push(line) }, logReadable: true });
    env.log.info({ service: "web", note: "two words", ids: [1, 2] }, "started");
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} info {2}started service=web note="two words" ids=\[1,2\]\n$/);
    expect(readableLine('{"level":"error","time":"2026-01-01T00:00:00.000Z","msg":"m"}', true)).toContain("\u001b[31m");
  });
});

describe("the host", () => {
  it("knows the package root and the loopback address", () => {
    const env = createEnv();
    expect(env.files.exists(join(env.root, "package.json"))).toBe(true);
    expect(env.net.localAddresses()).toContain("127.0.0.1");
  });
});
