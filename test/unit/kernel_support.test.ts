// When a kernel suite runs, is skipped with a reason, or fails because it must run; and that the
// programs it needs are looked for where they are started, and installed by plain set-up.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TOOLS } from "../../scripts/lab_available.ts";
import { runIn, runInSync, spawnIn } from "../../scripts/namespaces.ts";
import { searchPath } from "../../scripts/search_path.ts";
import { PLAIN } from "../../scripts/setup_plan.mjs";
import { effectiveCapabilities, missingCapabilities } from "../../src/dataplane/capabilities.ts";
import { ROOT, decideSuite } from "../support/kernel.ts";
import type { Need } from "../support/kernel.ts";

const nothing = (): null => null;
const lacks = (what: Need) => (need: Need): string | null => need === what ? `no ${what}` : null;

describe("decideSuite", () => {
  it("runs where nothing is missing", () => {
    expect(decideSuite(["capabilities", "addon"], nothing, true)).toEqual({ run: true });
    expect(decideSuite([], lacks("addon"), true)).toEqual({ run: true });
  });

  it("skips with the first reason, and fails with it where the tests are required", () => {
    const needs: Need[] = ["capabilities", "addon", "tool:wrk"];
    expect(decideSuite(needs, lacks("addon"), false)).toEqual({
      run: false,
      reason: "no addon",
      fail: false,
    });
    expect(decideSuite(needs, lacks("addon"), true)).toEqual({
      run: false,
      reason: "no addon",
      fail: true,
    });
    expect(decideSuite(needs, lacks("tool:wrk"), true)).toMatchObject({ fail: true });
  });

  it("a peer that plain set-up does not install is never required", () => {
    expect(decideSuite(["peer:haproxy"], lacks("peer:haproxy"), true)).toEqual({
      run: false,
      reason: "no peer:haproxy",
      fail: false,
    });
  });
});

describe("missingCapabilities", () => {
  it("names what the mask lacks", () => {
    expect(missingCapabilities(0x1ffffffffffn)).toEqual([]);
    expect(missingCapabilities(0n)).toEqual([
      "CAP_NET_ADMIN",
      "CAP_SYS_ADMIN",
      "CAP_PERFMON",
      "CAP_BPF",
    ]);
    expect(missingCapabilities(0x1ffffffffffn & ~(1n << 39n))).toEqual(["CAP_BPF"]);
    expect(missingCapabilities(1n << 12n, ["CAP_NET_ADMIN", "CAP_BPF"])).toEqual(["CAP_BPF"]);
    expect(missingCapabilities(1n << 13n, ["CAP_NET_ADMIN", "CAP_NET_RAW"])).toEqual(["CAP_NET_ADMIN"]);
  });

  it("reads the mask of a process, and none where there is none to read", () => {
    const status = "Name:\tnode\nCapPrm:\t000001ffffffffff\nCapEff:\t0000008000001000\n";
    expect(effectiveCapabilities(status)).toBe(1n << 39n | 1n << 12n);
    expect(effectiveCapabilities("Name:\tnode\n")).toBe(0n);
  });
});

describe("the programs that labs and kernel tests start", () => {
  it("are looked for in root's directories too, after the user's own", () => {
    expect(searchPath("/opt/u/bin:/usr/sbin")).toBe("/opt/u/bin:/usr/sbin:/usr/local/sbin:/sbin");
    expect(searchPath("")).toBe("/usr/local/sbin:/usr/sbin:/sbin");
  });

  it("are started with the PATH on which they were found", async () => {
    const PATH = "/usr/bin:/bin";
    const print = ["-c", 'printf %s "$PATH"'];
    const wanted = "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
    expect((await runIn(null, "sh", print, { variables: { PATH } })).stdout).toBe(wanted);
    expect(runInSync(null, "sh", print, { variables: { PATH } }).stdout).toBe(wanted);
    const child = spawnIn(null, "sh", print, { env: { PATH } });
    let said = "";
    child.stdout?.on("data", (chunk: Buffer) => { said += chunk.toString(); });
    await new Promise((resolve) => child.once("close", resolve));
    expect(said).toBe(wanted);
  });

  it("come with plain set-up, or with every Debian", () => {
    // util-linux and perl-base, which are essential there.
    const everywhere = ["nsenter", "setpriv", "taskset", "unshare", "perl"];
    const installed = PLAIN.flatMap(({ shownBy }) => "command" in shownBy ? [shownBy.command] : []);
    const asked = readdirSync(join(ROOT, "test/kernel"), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => readFileSync(join(ROOT, "test/kernel", name), "utf8"))
      .flatMap((text) => [...text.matchAll(/"tool:(\w+)"/g)].map((match) => match[1] ?? ""));
    expect(asked.length).toBeGreaterThan(5);
    const known = [...installed, ...everywhere];
    expect([...TOOLS, ...asked].filter((one) => !known.includes(one))).toEqual([]);
  });
});
