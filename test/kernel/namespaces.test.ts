// The namespace primitives on the real kernel: names, leftovers, and the reaper that outlives a
// killed owner.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { afterAll, expect, it } from "vitest";
import {
  createNamespace, deleteNamespace, deleteOwn, isLeftover, ownName, ownPinDirectory, processesIn, runIn,
  runInSync, spawnIn, sweepLeftovers,
} from "../../scripts/namespaces.ts";
import { ROOT, describeKernel } from "../support/kernel.ts";

/** Waits for a condition of another process; the deadline is generous on purpose. */
async function until(what: string, condition: () => boolean): Promise<void> {
  for (let attempts = 0; attempts < 600; attempts += 1) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`gave up waiting until ${what}`);
}

describeKernel("namespaces", ["capabilities", "namespaces", "bpffs", "tool:ip", "tool:nsenter"], () => {
  afterAll(deleteOwn);

  it("a command in a namespace sees its loopback, up, and bpffs", async () => {
    const name = createNamespace("see");
    const { stdout } = await runIn(name, "ip", ["-o", "link"]);
    expect(stdout.trim().split("\n")).toHaveLength(1);
    expect(stdout).toContain("LOOPBACK,UP");
    expect(runInSync(name, "stat", ["-f", "-c", "%T", "/sys/fs/bpf"]).stdout.trim()).toBe("bpf_fs");
    deleteNamespace(name);
    expect(existsSync(`/run/netns/${name}`)).toBe(false);
  });

  it("a failing command throws with what it said, or answers its status when asked", async () => {
    await expect(runIn(null, "sh", ["-c", "echo why >&2; exit 3"])).rejects.toThrow("status 3: why");
    const quiet = await runIn(null, "sh", ["-c", "cat; exit 3"], { check: false, input: "text" });
    expect(quiet).toEqual({ status: 3, stdout: "text", stderr: "" });
    expect(runInSync(null, "sh", ["-c", "kill -9 $$"], { check: false }).status).toBe(137);
  });

  it("deleting a namespace ends what runs in it", async () => {
    const name = createNamespace("busy");
    const child = spawnIn(name, "sleep", ["600"], { stdio: "ignore" });
    const ended = new Promise((resolve) => child.once("exit", (_code, signal) => { resolve(signal); }));
    await until("nsenter has become sleep", () => processesIn(name).length === 1);
    expect(processesIn(name)).toEqual([child.pid]);
    deleteNamespace(name);
    expect(await ended).toBe("SIGKILL");
  });

  it("sweeps what a dead process left and nothing else", () => {
    const mine = createNamespace("mine");
    // No process has ever started at tick 1 with this pid.
    const dead = `pm-${process.pid}-1-dead`;
    runInSync(null, "ip", ["netns", "add", dead]);
    mkdirSync(`/sys/fs/bpf/${dead}`);
    expect(isLeftover(dead)).toBe(true);
    expect(isLeftover(mine)).toBe(false);
    expect(isLeftover("pm-something-else")).toBe(false);
    const swept = sweepLeftovers();
    expect(swept).toContain(dead);
    expect(swept).toContain(`/sys/fs/bpf/${dead}`);
    expect(existsSync(`/run/netns/${mine}`)).toBe(true);
    expect(existsSync(`/run/netns/${dead}`)).toBe(false);
    deleteNamespace(mine);
  });

  it("the reaper cleans up after kill -9 of its owner", async () => {
    const loader = ["--import", "./scripts/typescript_loader.mjs", "--input-type=module"];
    const owner = spawn(process.execPath, [...loader, "-e", OWNER], {
      cwd: ROOT, stdio: ["ignore", "pipe", "inherit"],
    });
    const name = await new Promise<string>((resolve) => {
      owner.stdout.on("data", (text: Buffer) => { resolve(text.toString().trim()); });
    });
    expect(existsSync(`/run/netns/${name}`)).toBe(true);
    owner.kill("SIGKILL");
    await until("the namespace is gone", () => !existsSync(`/run/netns/${name}`));
    await until("the pin is gone", () => !existsSync(`/sys/fs/bpf/${name}`));
  });

  it("names carry this process and its start", () => {
    expect(ownName("x")).toMatch(new RegExp(`^pm-${process.pid}-\\d+-x$`));
    expect(ownPinDirectory("x")).toBe(`/sys/fs/bpf/${ownName("x")}`);
  });
});

/** What a crashed worker leaves: a namespace, a sleeper in it and a pin directory. */
const OWNER = `
import { mkdirSync } from "node:fs";
import {
  createNamespace, ownPinDirectory, spawnIn, startReaper,
} from "./scripts/namespaces.ts";
startReaper();
const name = createNamespace("doomed");
mkdirSync(ownPinDirectory("doomed"));
spawnIn(name, "sleep", ["600"], { stdio: "ignore" });
process.stdout.write(name + "\\n");
`;
