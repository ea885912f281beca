// Probes that run a process: commands of the operator's, with real shells, and the system's ping, whose words are
// played. What they leave behind, who waits for whom, and what of a secret is told.

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Env } from "../../src/env.ts";
import type { Outcome } from "../../src/health/judge.ts";
import { createProbe } from "../../src/health/probe.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { ExecHealth, Health, IcmpHealth } from "../../src/model/health_check.ts";
import { env, nowhere, TIMING } from "../support/probe_world.ts";

let directory = "";
beforeAll(() => { directory = mkdtempSync(join(tmpdir(), "pointsman-exec-")); });
afterAll(() => { rmSync(directory, { recursive: true, force: true }); });

const SH: ExecHealth = { type: "exec", command: "/bin/sh", args: [], environment: [], ...TIMING };
const script = (text: string, more: Partial<ExecHealth> = {}): ExecHealth => ({ ...SH, args: ["-c", text], ...more });
const path = (name: string): string => join(directory, name);

function run(health: Health, options: { exec?: Env["exec"]; allowed?: boolean; host?: string; signal?: AbortSignal; port?: number } = {}): Promise<Outcome> {
  const { exec = env.exec, allowed = true, host = "192.0.2.7", signal = new AbortController().signal, port = 8080 } = options;
  const address = parseAddress(host)!;
  return createProbe({ ...env, exec }, nowhere, allowed)({ name: "web/web-1", pool: "web", backend: "web-1", address, port, health, through: [] }, signal);
}

function isAlive(pid: number): boolean {
  // A zombie that nobody has waited for yet is dead.
  const stat = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, "utf8") : "";
  return stat !== "" && !/\) Z /.test(stat);
}

describe("exec", () => {
  it.each([
    ["exit 0", true, "exit status 0"], ["echo fine; echo more", true, "fine"], ["echo; echo '  second'", true, "second"],
    ["exit 3", false, "exit status 3"], ["echo 'disk full'; exit 2", false, "exit status 2: disk full"],
    ["echo oh >&2; exit 1", false, "exit status 1: oh"], ["printf '\\033[2Jred'; exit 1", false, "exit status 1: ·[2Jred"],
    ["kill -TERM $$", false, "ended by signal 15"],
  ])("%s", async (text, ok, reason) => {
    expect(await run(script(text))).toMatchObject({ ok, conclusive: true, reason });
  });

  it("knows its backend by its environment, and nothing of ours", async () => {
    process.env["POINTSMAN_TEST_SECRET"] = "hunter2";
    const environment = [{ name: "LEVEL", value: { from: "inline", text: "a b" } }] as const;
    const outcome = await run(script('env | sort | tr "\\n" " "', { environment }));
    delete process.env["POINTSMAN_TEST_SECRET"];
    expect(outcome.reason).toMatch(/^LC_ALL=C LEVEL=a b /);
    const text = 'echo "$POINTSMAN_POOL $POINTSMAN_BACKEND $POINTSMAN_ADDRESS [$POINTSMAN_PORT] $POINTSMAN_TIMEOUT_MS"';
    const six = await run(script(text), { host: "2001:db8::7", port: 0 });
    expect(six.reason).toBe("web web-1 2001:db8::7 [] 5000");
    const names = await run(script('env | cut -d= -f1 | sort | tr "\\n" " "'));
    expect(names.reason.split(" ").filter((name) => !["_", "PWD", "SHLVL", "TZ"].includes(name)))
      .toEqual(["LC_ALL", "PATH", "POINTSMAN_ADDRESS", "POINTSMAN_BACKEND", "POINTSMAN_POOL", "POINTSMAN_PORT", "POINTSMAN_TIMEOUT_MS"]);
  });

  it("has its arguments as they are, without a shell", async () => {
    const outcome = await run({ ...SH, command: "/bin/echo", args: ["$HOME", "a  b", ";", "*"] });
    expect(outcome.reason).toBe("$HOME a  b ; *");
  });

  it("has a secret from its file, which is not told", async () => {
    writeFileSync(path("token"), "hunter2\n");
    const environment = [{ name: "TOKEN", value: { from: "file", path: path("token") } }] as const;
    expect(await run(script('echo "wrong token $TOKEN"; [ "$TOKEN" = hunter2 ]; exit 1', { environment }))).toMatchObject(
      { ok: false, reason: "exit status 1: wrong token …" });
    writeFileSync(path("token"), `${"s".repeat(200)}\n`);
    expect((await run(script('echo "wrong token $TOKEN"; exit 1', { environment }))).reason).toBe("exit status 1: wrong token …");
    rmSync(path("token"));
    expect(await run(script("exit 0", { environment }))).toMatchObject({ ok: false, conclusive: false, reason: `there is no file ${path("token")}` });
  });

  it("says nothing of the backend where it may not or cannot be run", async () => {
    expect(await run(script(`touch ${path("ran")}`), { allowed: false })).toMatchObject(
      { ok: false, conclusive: false, reason: "commands of health checks are not allowed: begin with run --exec-probes" });
    expect(existsSync(path("ran"))).toBe(false);
    const missing = await run({ ...SH, command: path("none") });
    expect(missing).toMatchObject({ ok: false, conclusive: false });
    expect(missing.reason).toMatch(/^the command could not be run: .*ENOENT/);
    writeFileSync(path("plain"), "#!/bin/sh\n");
    chmodSync(path("plain"), 0o644);
    expect(await run({ ...SH, command: path("plain") })).toMatchObject({ ok: false, conclusive: false });
    expect(await run(script("exit 127"))).toMatchObject({ ok: false, conclusive: false });
  });

  it("that takes too long is killed, with all that it has started", async () => {
    const pids = path("pids");
    const outcome = await run(script(`echo $$ >${pids}; sleep 300 & echo $! >>${pids}; (sleep 300; :) & echo $! >>${pids}; wait`, { timeoutMs: 2500 }));
    expect(outcome).toMatchObject({ ok: false, conclusive: true, reason: "timeout after 2500 ms while running /bin/sh" });
    const started = readFileSync(pids, "utf8").trim().split("\n").map(Number);
    expect(started).toHaveLength(3);
    await expect.poll(() => started.filter(isAlive)).toEqual([]);
  });

  it("leaves nothing behind that it did not wait for, nor waits for it", async () => {
    const outcome = await run(script(`sleep 300 & echo $! >${path("pid")}; echo done`));
    expect(outcome).toMatchObject({ ok: true, reason: "done" });
    await expect.poll(() => isAlive(Number(readFileSync(path("pid"), "utf8")))).toBe(false);
  });

  it("is killed when nobody wants to know any more", async () => {
    const abort = new AbortController();
    const pending = run(script(`echo $$ >${path("aborted")}; exec sleep 300`), { signal: abort.signal });
    await expect.poll(() => existsSync(path("aborted")) && readFileSync(path("aborted"), "utf8") !== "").toBe(true);
    abort.abort();
    expect(await pending).toMatchObject({ conclusive: false, reason: "cancelled" });
    await expect.poll(() => isAlive(Number(readFileSync(path("aborted"), "utf8")))).toBe(false);
  });

  it("may say as much as it likes", async () => {
    const outcome = await run(script("echo start; i=0; while [ $i -lt 3000 ]; do printf '%0100d' $i; i=$((i+1)); done; exit 1"));
    expect(outcome).toMatchObject({ ok: false, conclusive: true, reason: "exit status 1: start" });
  });

  it("runs 32 at once at most; who waits in vain has done nothing wrong", async () => {
    let [running, most] = [0, 0];
    const ends: (() => void)[] = [];
    const exec: Env["exec"] = {
      ...env.exec,
      runGroup: async (_command, _args, { signal }) => {
        running += 1;
        most = Math.max(most, running);
        await new Promise<void>((resolve) => { ends.push(resolve); signal.addEventListener("abort", () => { resolve(); }); });
        running -= 1;
        return { status: 0, stdout: "", stderr: "" };
      },
    };
    const probe = createProbe({ ...env, exec }, nowhere, true);
    const target = { name: "p/b", pool: "p", backend: "b", address: parseAddress("192.0.2.1")!, port: 1, health: SH, through: [] };
    const late = { ...target, health: { ...SH, timeoutMs: 100 } };
    const first = Array.from({ length: 40 }, () => probe(target, new AbortController().signal));
    expect(await probe(late, new AbortController().signal)).toMatchObject(
      { ok: false, conclusive: false, reason: "timeout after 100 ms while waiting for other probes' processes to end" });
    expect([running, most]).toEqual([32, 32]);
    while (ends.length > 0) {
      ends.shift()!();
      await new Promise((resolve) => { setImmediate(resolve); });
    }
    for (const outcome of await Promise.all(first)) expect(outcome).toMatchObject({ ok: true });
    expect([running, most]).toEqual([0, 32]);
  });
});

describe("icmp", () => {
  const ICMP: IcmpHealth = { type: "icmp", ...TIMING };
  const saying = (status: number, stdout: string, stderr = "", asked: string[] = []): Env["exec"] => ({
    ...env.exec,
    runGroup: async (command, args) => {
      asked.push([command, ...args].join(" "));
      return { status, stdout, stderr };
    },
  });

  it("asks ping, of either IP version and from a source", async () => {
    const asked: string[] = [];
    const echo = saying(0, "PING 192.0.2.7\n64 bytes from 192.0.2.7: icmp_seq=1 ttl=64 time=0.045 ms\n", "", asked);
    expect(await run(ICMP, { exec: echo })).toMatchObject({ ok: true, conclusive: true, reason: "echo after 0.045 ms" });
    await run({ ...ICMP, timeoutMs: 900, source: parseAddress("2001:db8::1") }, { exec: echo, host: "2001:db8::7", port: 0 });
    await run({ ...ICMP, source: parseAddress("2001:db8::1") }, { exec: echo });
    expect(asked).toEqual([
      "ping -4 -n -c 1 -W 5 192.0.2.7", "ping -6 -n -c 1 -W 1 -I 2001:db8::1 2001:db8::7", "ping -4 -n -c 1 -W 5 192.0.2.7",
    ]);
  });

  it.each([
    [1, "PING 192.0.2.7\n\n1 packets transmitted, 0 received\n", "", true, "no echo"],
    [1, "From 198.18.0.1 icmp_seq=1 Destination Host Unreachable\n", "", true, "198.18.0.1 answered Destination Host Unreachable"],
    [1, "From 2001:db8::1: icmp_seq=1 Time exceeded: Hop limit\n", "", true, "2001:db8::1 answered Time exceeded: Hop limit"],
    [2, "", "ping: connect: Network is unreachable\n", true, "connect: Network is unreachable"],
    [2, "", "ping: socktype: SOCK_RAW\nping: socket: Operation not permitted\n", false, "ping could not ask: socket: Operation not permitted"],
    [2, "", "ping: bind: Cannot assign requested address\n", false, "ping could not ask: bind: Cannot assign requested address"],
    [127, "", "spawn ping ENOENT", false, "there is no ping on this host: install iputils-ping"],
  ])("ends with %i and %j, %j", async (status, stdout, stderr, conclusive, reason) => {
    const outcome = await run(ICMP, { exec: saying(status, stdout, stderr) });
    expect(outcome).toMatchObject({ ok: false, conclusive });
    expect(outcome.reason).toContain(reason);
  });
});
