// What set-up decides on machines and for users of every kind, and the lock that two set-ups share.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { atLeast, leftoverOutputs, missingForNative, whyNotReuse } from "../../scripts/build_plan.mjs";
import { withLock } from "../../scripts/lock.mjs";
import {
  EXTRAS,
  PLAIN,
  installedMatches,
  isSupported,
  parseOsRelease,
  planSetup,
  refuseApt,
  unknownExtras,
  wantedPackages,
} from "../../scripts/setup_plan.mjs";
import type { Facts } from "../../scripts/setup_plan.mjs";
import { digest, isFresh, writeStamp } from "../../scripts/stamp.mjs";
import { assertProperty } from "../support/counts.ts";
import { ROOT } from "../support/kernel.ts";

const fresh: Facts = {
  platform: "linux",
  system: { id: "debian", like: "", version: "12" },
  uid: 0,
  ownerUid: 0,
  tty: false,
  sudo: "absent",
  apt: true,
  policy: "",
  plane: "all",
  extras: [],
  present: [],
  dependenciesFresh: false,
  built: false,
};
const ready: Facts = {
  ...fresh,
  present: PLAIN.map((one) => one.name),
  dependenciesFresh: true,
  built: true,
};

const anyFacts: fc.Arbitrary<Facts> = fc.record({
  platform: fc.constantFrom("linux", "darwin"),
  system: fc.constantFrom(
    { id: "debian", like: "", version: "12" },
    { id: "debian", like: "", version: "11" },
    { id: "debian", like: "", version: "" },
    { id: "ubuntu", like: "debian", version: "24.04" },
    { id: "ubuntu", like: "debian", version: "22.04" },
    { id: "fedora", like: "", version: "41" },
    { id: "", like: "", version: "" },
  ),
  uid: fc.constantFrom(0, 1000), ownerUid: fc.constantFrom(0, 1000), tty: fc.boolean(),
  sudo: fc.constantFrom("works" as const, "asks" as const, "absent" as const), apt: fc.boolean(),
  policy: fc.constantFrom("", "no-apt"), plane: fc.constantFrom("all" as const, "proxy" as const),
  extras: fc.subarray(Object.keys(EXTRAS)), present: fc.subarray(PLAIN.map((one) => one.name)),
  dependenciesFresh: fc.boolean(), built: fc.boolean(),
});

const kinds = (facts: Facts): string[] => planSetup(facts).map((step) => step.do);

describe("planSetup", () => {
  it("a fresh machine gets everything, in order", () => {
    expect(kinds(fresh)).toEqual(["npm", "say", "apt", "build"]);
  });

  it("a ready one gets nothing", () => { expect(planSetup(ready)).toEqual([]); });

  it("only what is missing is installed, and it is printed first with its reason", () => {
    const steps = planSetup({ ...ready, present: ready.present.filter((name) => name !== "wrk") });
    expect(steps[0]).toEqual({
      do: "say",
      text: "installing from apt: wrk (traffic of the lab and the tests)",
    });
    expect(steps[1]).toMatchObject({
      do: "apt",
      packages: ["wrk"],
      through: "none",
      required: false,
    });
    expect(steps[2]).toEqual({ do: "build" });
  });

  it("what --with asks for must succeed, and its services stay off", () => {
    expect(planSetup({ ...ready, extras: ["bench"] })[1]).toMatchObject({
      packages: ["haproxy", "nginx", "libnginx-mod-stream", "nftables"], required: true,
      units: ["haproxy.service", "nginx.service", "nftables.service"],
    });
    expect(unknownExtras(["bench", "benhc"])).toEqual(["benhc"]);
  });

  it("unpacks a kernel and never installs it, without anybody's rights", () => {
    const steps = planSetup({ ...ready, extras: ["old-kernel"], uid: 1000, sudo: "works" });
    expect(steps.slice(1, 3)).toEqual([
      {
        do: "apt", packages: ["qemu-system-x86", "busybox-static"], units: [], through: "sudo -n",
        required: true,
      },
      { do: "unpack", package: "linux-image-cloud-amd64", into: "build/old-kernel" },
    ]);
    const present = [...ready.present, "qemu-system-x86", "busybox-static"];
    expect(kinds({ ...ready, extras: ["old-kernel"], present })).toEqual(["say", "unpack"]);
  });

  it("another user escalates apt alone, and is asked only at a terminal", () => {
    const user = { ...fresh, uid: 1000, ownerUid: 1000 };
    const through = (facts: Facts): unknown => planSetup(facts).find((step) => step.do === "apt");
    expect(through({ ...user, sudo: "works" })).toMatchObject({ through: "sudo -n" });
    expect(through({ ...user, sudo: "asks", tty: true })).toMatchObject({ through: "sudo" });
    expect(through({ ...user, sudo: "asks", tty: false })).toBeUndefined();
    expect(refuseApt({ ...user, sudo: "asks" })).toContain("ask for a password");
    expect(through({ ...user, sudo: "absent", tty: true })).toBeUndefined();
  });

  it("root gives somebody else's clone back, last", () => {
    expect(kinds({ ...fresh, ownerUid: 1000 })).toEqual([
      "npm",
      "say",
      "apt",
      "build",
      "give-back",
    ]);
    expect(kinds({ ...ready, ownerUid: 1000 })).toEqual([]);
  });

  it("without apt it says what is left out, and builds what can be built", () => {
    const steps = planSetup({ ...fresh, apt: false });
    expect(steps.map((step) => step.do)).toEqual(["npm", "say", "build"]);
    expect(steps[1]).toMatchObject({ text: expect.stringContaining("libbpf-dev") as string });
  });

  it("holds on every machine", () => {
    assertProperty(
      "setup-plan",
      fc.property(anyFacts, (facts) => {
        const steps = planSetup(facts);
        const apt = steps.find((step) => step.do === "apt");
        if (facts.policy === "no-apt" || facts.platform !== "linux" || !facts.apt)
          expect(apt).toBeUndefined();
        if (facts.plane === "proxy" && facts.extras.length === 0) expect(apt).toBeUndefined();
        if (!facts.tty && facts.uid !== 0 && facts.sudo !== "works") expect(apt).toBeUndefined();
        if (apt !== undefined) {
          expect(apt.packages.some((name) => name.startsWith("linux-image"))).toBe(false);
          expect(apt.packages.length).toBeGreaterThan(0);
          expect(new Set(apt.packages).size).toBe(apt.packages.length);
          for (const name of facts.present) expect(apt.packages).not.toContain(name);
          expect(apt.through === "none").toBe(facts.uid === 0);
          expect(steps[steps.indexOf(apt) - 1]?.do).toBe("say");
          expect(steps.findIndex((step) => step.do === "build")).toBeGreaterThan(
            steps.indexOf(apt),
          );
        }
        expect(steps.some((step) => step.do === "npm")).toBe(!facts.dependenciesFresh);
        const gives = steps.findIndex((step) => step.do === "give-back");
        expect(
          gives === -1 || (gives === steps.length - 1 && facts.uid === 0 && facts.ownerUid !== 0),
        ).toBe(true);
      }),
    );
  });

  it("plain set-up asks for nothing that starts a service, and for no peer", () => {
    expect(PLAIN.filter((one) => one.units !== undefined)).toEqual([]);
    expect(wantedPackages({ ...fresh, platform: "darwin", extras: ["bench"] })).toEqual([]);
  });
});

describe("facts", () => {
  it("reads os-release, quoted or not", () => {
    expect(
      parseOsRelease('PRETTY_NAME="Debian GNU/Linux 12"\nVERSION_ID="12"\nID=debian\n'),
    ).toEqual({ id: "debian", like: "", version: "12" });
    expect(isSupported(parseOsRelease('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"'))).toBe(true);
    expect(isSupported(parseOsRelease('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"'))).toBe(
      false,
    );
    expect(
      isSupported(parseOsRelease('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID=22')),
    ).toBe(true);
    expect(isSupported(parseOsRelease(""))).toBe(false);
  });

  it("compares versions by number", () => {
    expect(atLeast("1.10.0", "1.9")).toBe(true);
    expect(atLeast("1.1", "1.1.0")).toBe(true);
    expect(atLeast("0.8.1", "1.1")).toBe(false);
  });

  it("names what the native build lacks", () => {
    const all = { platform: "linux", onPath: () => true, libbpfVersion: "1.1.2" };
    expect(missingForNative(all)).toEqual([]);
    expect(missingForNative({ ...all, libbpfVersion: "0.5.0" })).toEqual([
      "libbpf >= 1.1 (found 0.5.0)",
    ]);
    expect(missingForNative({ ...all, onPath: (command) => command !== "clang" })).toEqual([
      "clang",
    ]);
    expect(missingForNative({ ...all, platform: "darwin" })).toEqual(["Linux (this is darwin)"]);
    const bare = missingForNative({ platform: "linux", onPath: () => false, libbpfVersion: null });
    expect(bare).toEqual([
      "clang",
      "cmake",
      "pkg-config",
      "make",
      "a C++ compiler (g++)",
      "libbpf >= 1.1 (libbpf-dev)",
    ]);
  });

  it("builds on no build/ of another folder, and on none whose tools are gone", () => {
    const cache = [
      "CMAKE_COMMAND:INTERNAL=/usr/bin/cmake", "CMAKE_MAKE_PROGRAM:FILEPATH=/usr/bin/ninja",
      "CMAKE_CXX_COMPILER:STRING=/usr/bin/c++", "CMAKE_CXX_COMPILER-ADVANCED:INTERNAL=1",
      "CMAKE_CACHEFILE_DIR:INTERNAL=/a b/ö/build", "CMAKE_HOME_DIRECTORY:INTERNAL=/a b/ö", "",
    ].join("\n");
    const here = (root: string, ...gone: string[]): Parameters<typeof whyNotReuse>[1] => ({
      root, resolve: (path) => gone.includes(path) ? null : path.replace("/link", "/a b"),
    });
    expect(whyNotReuse(cache, here("/a b/ö"))).toBeNull();
    expect(whyNotReuse(cache, here("/link/ö"))).toBeNull();
    expect(whyNotReuse(cache, here("/other"))).toBe("was made for /a b/ö");
    expect(whyNotReuse(cache, here("/other", "/a b/ö"))).toBe("was made for /a b/ö");
    expect(whyNotReuse(cache, here("/a b/ö", "/usr/bin/ninja"))).toBe(
      "was made with /usr/bin/ninja, which is not there",
    );
    expect(whyNotReuse("", here("/other"))).toBe("was made for no folder");
  });

  it("knows what the compiler wrote for sources that are gone, or by other settings", () => {
    const sources = ["src/a.ts", "src/b.gen.ts", "scripts/build.mjs"];
    const written = ["src/a.js", "src/a.d.ts", "src/b.gen.js", "src/b.gen.d.ts"];
    const left = ["src/a.js.map", "src/gone.js", "src/gone.d.ts", "bench/a.js"];
    expect(leftoverOutputs([...left, ...written], sources)).toEqual(left);
  });

  it("takes an npm ci by hand for what it is", () => {
    const machine = { platform: "linux", arch: "x64" };
    const lock = {
      packages: {
        "": { version: "1" },
        "node_modules/a": { version: "1.0.0", integrity: "x" },
        "node_modules/b-darwin": { version: "1.0.0", optional: true, os: ["darwin"] },
        "node_modules/b-linux": { version: "1.0.0", optional: true, os: ["linux"], cpu: ["x64"] },
        "node_modules/b-musl": {
          version: "1.0.0",
          optional: true,
          os: ["linux"],
          cpu: ["x64"],
          libc: ["musl"],
        },
      },
    };
    const installed = {
      packages: {
        "node_modules/a": { version: "1.0.0", integrity: "x" },
        "node_modules/b-linux": { version: "1.0.0" },
      },
    };
    expect(installedMatches(lock, installed, machine)).toBe(true);
    expect(installedMatches(lock, installed, { ...machine, platform: "darwin" })).toBe(false);
    expect(installedMatches(lock, { packages: {} }, machine)).toBe(false);
    const other = {
      packages: { ...installed.packages, "node_modules/a": { version: "1.0.1", integrity: "x" } },
    };
    expect(installedMatches(lock, other, machine)).toBe(false);
  });
});

describe("stamps and the lock", () => {
  let directory = "";
  beforeEach(() => { directory = mkdtempSync(join(tmpdir(), "pointsman-lock-")); });
  afterEach(() => { rmSync(directory, { recursive: true, force: true }); });

  it("a stamp is fresh while contents and outputs stay, whatever the times", () => {
    writeFileSync(join(directory, "source"), "a");
    const stamp = join(directory, "stamps/one.json");
    const before = digest(directory, ["source", "absent"]);
    expect(isFresh(stamp, before, [])).toBe(false);
    writeStamp(stamp, before);
    writeFileSync(join(directory, "source"), "a");
    expect(
      isFresh(stamp, digest(directory, ["source", "absent"]), [join(directory, "source")]),
    ).toBe(true);
    expect(isFresh(stamp, before, [join(directory, "output")])).toBe(false);
    writeFileSync(join(directory, "source"), "b");
    expect(digest(directory, ["source", "absent"])).not.toBe(before);
    expect(digest(directory, ["source"], ["text"])).not.toBe(digest(directory, ["source"]));
  });

  it("never lets two bodies overlap, whoever they belong to", async () => {
    const lock = join(directory, "lock");
    const log = join(directory, "log");
    const script = `
      import { appendFileSync } from "node:fs";
      import { withLock } from ${JSON.stringify(join(ROOT, "scripts/lock.mjs"))};
      for (let i = 0; i < 5; i += 1) await withLock(${JSON.stringify(lock)}, { waiting() {}, retryMs: 1 }, async () => {
        appendFileSync(${JSON.stringify(log)}, "in\\n");
        await new Promise((resolve) => setTimeout(resolve, 2));
        appendFileSync(${JSON.stringify(log)}, "out\\n");
      });`;
    const children = Array.from({ length: 3 }, () =>
      spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: "inherit" }),
    );
    const codes = await Promise.all(
      children.map((child) => new Promise((resolve) => child.once("close", resolve))),
    );
    expect(codes).toEqual([0, 0, 0]);
    expect(readFileSync(log, "utf8")).toBe("in\nout\n".repeat(15));
    expect(existsSync(lock)).toBe(false);
  });

  it("takes over from a dead owner, and lets go when the body throws", async () => {
    const lock = join(directory, "lock");
    writeFileSync(lock, "4194304 1\n");
    await expect(
      withLock(
        lock,
        {
          waiting: () => {
            throw new Error("waited");
          },
          retryMs: 1,
        },
        () => "done",
      ),
    ).resolves.toBe("done");
    await expect(
      withLock(lock, { waiting: () => undefined }, () => {
        throw new Error("body");
      }),
    ).rejects.toThrow("body");
    expect(existsSync(lock)).toBe(false);
  });

  it("waits for a living owner and says whom for, once", async () => {
    const lock = join(directory, "lock");
    const told: string[] = [];
    let letGo = (): void => undefined;
    const held = withLock(
      lock,
      { waiting: () => undefined },
      () =>
        new Promise<void>((resolve) => {
          letGo = resolve;
        }),
    );
    const waiter = withLock(
      lock,
      {
        waiting: (owner) => {
          told.push(owner);
          letGo();
        },
        retryMs: 1,
      },
      () => "mine",
    );
    await held;
    expect(await waiter).toBe("mine");
    expect(told).toEqual([String(process.pid)]);
  });
});
