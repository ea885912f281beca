// The command line from outside: exit codes, what is printed where, and what the instance is asked. A fake
// world, and a client that only remembers.

import { describe, expect, it } from "vitest";
import type { Client } from "../../src/api/client.ts";
import { explanationSchema, ringReportSchema } from "../../src/api/schemas_questions.ts";
import type { Io } from "../../src/cli/io.ts";
import { runCli } from "../../src/cli/program.ts";
import { amount, duration, parseDuration, percent, table } from "../../src/cli/table.ts";
import { Failure } from "../../src/errors.ts";
import { UNKNOWN_AMOUNT, type FlowAmount } from "../../src/model/held_flows.ts";
import { createFakeEnv } from "../support/fake_env.ts";

const CONFIG = `version: 1
instance: test
dataplane: { mode: auto, interfaces: [eth9], hashSeed: "0011223344556677" }
pools:
  web:
    backends:
      - { name: a, address: 10.0.0.1 }
      - { name: b, address: 10.0.0.2 }
      - { name: c, address: 10.0.0.3 }
services:
  - { name: web, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: l2, pool: web }
`;

interface Ended {
  code: number;
  out: string;
  err: string;
  asked: unknown[][];
}

/** Runs a command line in a world with /config.yaml and others; `answers` by method of the client. */
async function cli(
  argv: string,
  options: {
    readonly files?: Readonly<Record<string, string>>;
    readonly answers?: Readonly<Record<string, unknown>>;
    readonly tty?: boolean;
    readonly confirm?: boolean;
    readonly uid?: number;
  } = {},
): Promise<Ended> {
  const env = createFakeEnv({ uid: options.uid ?? 0 });
  for (const [path, text] of Object.entries({ "/config.yaml": CONFIG, ...options.files }))
    env.files.writeAtomic(path, text, 0o644);
  env.files.writeAtomic("/latin1.yaml", Buffer.from("version: 1\n\xfc: 2\n", "latin1"), 0o644);
  const ended: Ended = { code: -1, out: "", err: "", asked: [] };
  const client = new Proxy(
    {},
    {
      get:
        (_, method: string) =>
        (...args: unknown[]) => {
          if (method === "close") return Promise.resolve();
          ended.asked.push([method, ...args]);
          const answer = options.answers?.[method];
          return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
        },
    },
  ) as Client;
  const io: Io = {
    env,
    out: (text) => {
      ended.out += text;
    },
    err: (text) => {
      ended.err += text;
    },
    isTty: options.tty ?? false,
    columns: 100,
    actor: "tester",
    confirm: () => Promise.resolve(options.confirm ?? false),
    interrupted: new AbortController().signal,
    onHangup: () => () => undefined, onUpgradeSignal: () => () => undefined,
    connect: () => client,
  };
  ended.code = await runCli(argv.split(" "), io);
  return ended;
}

function tracked(count: number): FlowAmount {
  return { count, kind: "tracked" };
}

const PLAN = {
  changed: true,
  steps: [{ action: "write", object: "ring", detail: "65537 slots" }],
  services: [{ service: "web", change: "changed", slotsMoved: 32768, slotsBroken: 0, ringSize: 65537, share: 0.5, brokenShare: 0 }],
  flows: { moved: tracked(5), broken: tracked(4), total: tracked(100) },
  replacesPlane: null,
  warnings: [],
};
const APPLIED = { revision: 3, changed: true, plan: PLAN, steps: 4, durationMs: 1.5, failed: [], warnings: [] };

describe("exit codes", () => {
  it.each([
    ["--help", 0, /Usage: pointsman/],
    ["--version", 0, /^\d+\.\d+\.\d+/],
    ["check /config.yaml", 0, /is valid: 1 service/],
  ])("%s ends with %d", async (argv, code, out) => {
    const ended = await cli(argv);
    expect([ended.code, ended.err]).toEqual([code, ""]);
    expect(ended.out).toMatch(out);
  });

  it("check warns of secrets of probes that cannot be read here, and finds the config valid", async () => {
    const config = CONFIG.replace("  web:\n", "  web:\n    health: { type: http, headers: { X-Key: 'file:/token', X-Other: 'file:/other' } }\n");
    const lacking = await cli("check /keyed.yaml", { files: { "/keyed.yaml": config, "/other": "o" } });
    expect([lacking.code, lacking.err]).toEqual([0, expect.stringMatching(
      /^\/keyed\.yaml: warning: probe files: \/token: not there, or not readable \(.*create them, .*\)\n$/)]);
    expect(lacking.out).toMatch(/is valid/);
    const whole = await cli("check /keyed.yaml", { files: { "/keyed.yaml": config, "/other": "o", "/token": "t" } });
    expect([whole.code, whole.err]).toEqual([0, ""]);
  });

  it.each([
    ["nonsense", 2, /unknown command/],
    ["check", 2, /missing required argument/],
    ["weight a 70000", 2, /whole number/],
    ["status -o xml", 2, /Allowed choices/],
    ["events --kind weather", 2, /Allowed choices are health, /],
    ["check /absent.yaml", 1, /FILE_UNREADABLE/],
    ["check /bad.yaml", 2, /bad\.yaml:\d+:\d+: /],
    ["explain nobody web -c /config.yaml", 2, /REQUEST_INVALID/],
    ["explain 1.2.3.4:5 mail -c /config.yaml", 1, /UNKNOWN_SERVICE/],
    ["explain 1.2.3.4:5 web -c /bad.yaml", 2, /CONFIG_INVALID/],
    ["drain a --for soon", 2, /"soon" is not a duration/],
    ["drain a --for 0s", 2, /"0s" is not a duration from 1ms to 3650d, .*until cleared/],
    ["drain a --timeout soon", 2, /--timeout: "soon" is not a duration/],
    ["weight a 5 --for 99999999h", 2, /"99999999h" is not a duration from 1ms to 3650d/],
    ["drain a --for 99999999999999999999d", 2, /is not a duration from 1ms to 3650d/],
    ["explain 1.2.3.4:5 web -c /config.yaml --hash-seed xyz", 2, /16 hexadecimal digits/],
    ["ring web -c /config.yaml --hash-seed xyz", 2, /16 hexadecimal digits/],
    ["explain 1.2.3.4:5 web --hash-seed 0011223344556677", 2, /--hash-seed goes with -c/],
    ["ring web --hash-seed 0011223344556677", 2, /--hash-seed goes with -c/],
    ["status --instance ../../etc/passwd", 2, /name matches/],
    ["status --socket ", 2, /path of a socket/],
    [`status --socket /${"x".repeat(107)}`, 1, /108 bytes, and a socket's path may have 107/],
    [`detach --socket /${"x".repeat(107)}`, 1, /108 bytes, and a socket's path may have 107/],
    ["plan /latin1.yaml", 2, /latin1\.yaml:2:1: \(file\): is not valid UTF-8/],
    ["apply /latin1.yaml", 2, /latin1\.yaml:2:1: \(file\): is not valid UTF-8/],
    ["replay -c /config.yaml --in /absent.pcap", 1, /FILE_UNREADABLE/],
  ])("%s ends with %d and says why on stderr", async (argv, code, err) => {
    const ended = await cli(argv, { files: { "/bad.yaml": "version: 1\nservices: 7\n" } });
    expect(ended.code, ended.err).toBe(code);
    expect(ended.err).toMatch(err);
    expect(ended.out).toBe("");
  });

  it("prints every problem of a config that the instance refuses", async () => {
    const problems = ["a", "b"].map((path, index) =>
      ({ severity: "error" as const, file: "f", line: index + 1, column: 1, path, reason: "is wrong", hint: null }));
    const refused = new Failure("CONFIG_INVALID", { problems }, "the config is not valid");
    const { code, err } = await cli("reload", { answers: { reload: refused } });
    expect([code, err]).toEqual([2, "pointsman: CONFIG_INVALID: the config is not valid\nf:1:1: a: is wrong\nf:2:1: b: is wrong\n"]);
  });

  it("takes what the operating system refuses for a failure and no bug", async () => {
    const error = Object.assign(new Error("EACCES: permission denied, open '/x'"), { code: "EACCES", syscall: "open" });
    const { code, err } = await cli("services", { answers: { services: error } });
    expect([code, err]).toEqual([1, "pointsman: SYSTEM: EACCES: permission denied, open '/x'\n"]);
  });

  it.each(["status", "apply /config.yaml", "detach"])("%s does not speak to a socket that may be another user's", async (argv) => {
    const ended = await cli(argv, { uid: 1000, files: { "/tmp/pointsman-1000": "" } });
    expect([ended.code, ended.asked]).toEqual([1, []]);
    expect(ended.err).toMatch(/SYSTEM: \/tmp\/pointsman-1000 is no directory, .* by POINTSMAN_RUN_DIRECTORY\n$/);
  });

  it("tells a failure from a bug", async () => {
    const failure = new Failure("INSTANCE_NOT_RUNNING", { instance: "main", socket: "/run/x" }, "nobody answers");
    expect((await cli("services", { answers: { services: failure } })).code).toBe(1);
    const bug = await cli("services", { answers: { services: new TypeError("undefined is not a function") } });
    expect(bug.code).toBe(70);
    expect(bug.err).toMatch(/bug/);
  });
});

describe("questions from a file", () => {
  it("explain answers in the published shape, and names one backend for ever", async () => {
    const { out } = await cli("explain 198.51.100.7:40000 web -c /config.yaml -o json");
    const answer = explanationSchema.parse(JSON.parse(out));
    expect(answer.backend).toMatch(/^web\/[abc]$/);
    expect((await cli("explain 198.51.100.7:40000 web -c /config.yaml")).out).toContain(
      `→ web: ${answer.backend ?? ""}`,
    );
  });

  it("explain answers for one address and port of a service that has several", async () => {
    const files = { "/wide.yaml": CONFIG.replace("address: 203.0.113.10, port: 80", "address: 203.0.113.0/28, port: 80-89")
      .replace("backends:\n      - { name: a", "health: { type: none }\n    backends:\n      - { name: a")
      + "  - { name: one, address: 203.0.113.0, port: 80, pool: web }\n" };
    const ask = (rest: string): Promise<Ended> => cli(`explain 198.51.100.7:40000 web -c /wide.yaml ${rest}`.trim(), { files });
    const told = explanationSchema.parse(JSON.parse((await ask("--to 203.0.113.5:81 -o json")).out));
    expect(told.steps[0]?.detail).toBe("web is tcp 203.0.113.0/28:80-89, forwarding l2 for 203.0.113.5:81");
    expect(told.steps[1]?.detail).toContain("198.51.100.7:40000 to 203.0.113.5:81,");
    expect(told.destination).toMatch(/^10\.0\.0\.[123]:81$/);
    expect((await ask("--to 203.0.113.16:81")).err).toMatch(/203\.0\.113\.16:81 is not part of web, which is 203\.0\.113\.0\/28:80-89/);
    expect((await ask("--to 203.0.113.5:90")).err).toMatch(/is not part of web/);
    expect((await ask("--to here")).err).toMatch(/here is no address:port/);
    expect((await ask("--to 203.0.113.0:80")).err).toMatch(/belongs to one, which is more specific than web .*ask for that service/);
    // The first address and port are another service's: there is no example to take.
    expect((await ask("")).err).toMatch(/belongs to one, .*--to/);
    expect((await cli("explain 198.51.100.7:40000 one -c /wide.yaml", { files })).code).toBe(0);
    expect((await cli("explain 198.51.100.7:40000 one -c /wide.yaml --to 203.0.113.0:81", { files })).code).toBe(2);
  });

  it("says when the seed is not the instance's", async () => {
    const files = { "/state.yaml": CONFIG.replace(', hashSeed: "0011223344556677"', "") };
    expect((await cli("explain 198.51.100.7:40000 web -c /state.yaml", { files })).err).toMatch(/test seed/);
    expect(
      (await cli("explain 198.51.100.7:40000 web -c /state.yaml --hash-seed 0011223344556677", { files })).err,
    ).toBe("");
  });

  it("ring prints slots per backend, and what a failure moves", async () => {
    const whole = ringReportSchema.parse(JSON.parse((await cli("ring web -c /config.yaml -o json")).out));
    expect(Object.keys(whole)).toEqual(["service", "size", "backends", "slots"]);
    expect(whole.slots).toHaveLength(65537);
    const down = await cli("ring web -c /config.yaml --down a");
    expect(down.out).toMatch(/slots of other backends that moved: 0 \(0.0%\)/);
    const removed = ringReportSchema.parse(JSON.parse((await cli("ring web -c /config.yaml --remove a -o json")).out));
    const none = await cli("ring web -c /config.yaml --remove a --remove b --remove c");
    expect(none.out).toContain("nobody is left for the 65537 slots");
    expect(removed.backends.map(({ name }) => name.replace(/^web\//, ""))).toEqual(["b", "c"]);
  });

  it("plan --from compares two files, and --exit-code tells whether anything differs", async () => {
    const files = {
      "/other.yaml": CONFIG.replace("{ name: c, address: 10.0.0.3 }", "{ name: c, address: 10.0.0.3, weight: 10 }"),
    };
    const same = await cli("plan /config.yaml --from /config.yaml --exit-code", { files });
    expect([same.code, same.out]).toEqual([0, "nothing would change\n"]);
    const other = await cli("plan /other.yaml --from /config.yaml --exit-code", { files });
    expect(other.code).toBe(3);
    expect(other.out).toMatch(/web\s+changed\s+\d+/);
  });
});

describe("changes of a running instance", () => {
  it("plan asks and lays out", async () => {
    const ended = await cli("plan /config.yaml --exit-code", { answers: { plan: PLAN } });
    expect(ended.code).toBe(3);
    expect(ended.out).toContain("live flows that would move: 5* of 100*, and break: 4*\nflows: * seen within flowIdle (tracked)\n");
    expect(ended.asked).toEqual([["plan", { name: "/config.yaml", text: CONFIG, actor: "tester" }]]);
  });

  it("apply asks a person before it moves much, and nobody else", async () => {
    const answers = { plan: PLAN, apply: APPLIED };
    const refused = await cli("apply /config.yaml", { answers, tty: true, confirm: false });
    expect([refused.code, refused.asked.map(([method]) => method)]).toEqual([1, ["plan"]]);
    for (const options of [{ tty: true, confirm: true }, { tty: false }]) {
      const ended = await cli("apply /config.yaml", { answers, ...options });
      expect([ended.code, ended.asked.map(([method]) => method)]).toEqual([0, ["plan", "apply"]]);
    }
    expect((await cli("apply /config.yaml --yes", { answers, tty: true })).out).toMatch(/revision 3: 4 steps/);
  });

  it("apply asks before it breaks a little, and before it takes another plane, not before it moves a little", async () => {
    const [service] = PLAN.services;
    const calm = { ...PLAN, services: [{ ...service, share: 0.1 }], flows: { ...PLAN.flows, broken: tracked(0) } };
    const asks = async (plan: object): Promise<boolean> => {
      const ended = await cli("apply /config.yaml", { answers: { plan, apply: APPLIED }, tty: true, confirm: false });
      return ended.code === 1;
    };
    expect(await asks(calm)).toBe(false);
    expect(await asks({ ...calm, services: [{ ...service, share: 0.1, brokenShare: 0.02 }] })).toBe(true);
    expect(await asks({ ...calm, flows: { ...PLAN.flows, broken: tracked(20) } })).toBe(true);
    expect(await asks({ ...calm, flows: { moved: UNKNOWN_AMOUNT, broken: UNKNOWN_AMOUNT, total: UNKNOWN_AMOUNT } })).toBe(false);
    expect(await asks({ ...calm, replacesPlane: "the mode" })).toBe(true);
    // Nobody has connections yet.
    expect(await asks({ ...calm, services: [{ ...service, change: "added", share: 1, brokenShare: 1 }] })).toBe(false);
  });

  it("apply that leaves a service unserved is a failure", async () => {
    const failed = { ...APPLIED, failed: [{ service: "web", reason: "port in use" }] };
    const ended = await cli("apply /config.yaml", { answers: { plan: PLAN, apply: failed } });
    expect([ended.code, ended.out]).toEqual([1, expect.stringContaining("not served: web: port in use")]);
  });

  it("drain, weight and undrain say who, why and how long", async () => {
    const answers = {
      override: { target: "web/a", change: { kind: "drain" }, atMs: 0, expiresAtMs: 600_000 },
      clearOverrides: [],
    };
    const drained = await cli("drain a --for 10m --reason disk", { answers });
    expect(drained.out).toBe("web/a: draining for 10m\n");
    expect(drained.asked).toEqual([
      ["override", { target: "a", change: { kind: "drain" }, actor: "tester", reason: "disk", expiresInMs: 600_000 }],
    ]);
    const weighed = await cli("weight web/a 0", { answers });
    expect(weighed.asked[0]?.[1]).toMatchObject({ change: { kind: "weight", weight: 0 }, expiresInMs: null });
    expect((await cli("undrain a", { answers })).asked).toEqual([
      ["clearOverrides", { target: "a", kind: "drain", actor: "tester" }],
      ["clearOverrides", { target: "a", kind: "maintenance", actor: "tester" }],
    ]);
    expect((await cli("ready a", { answers })).asked).toHaveLength(2);
    expect((await cli("maintenance a", { answers })).out).toBe("web/a: in maintenance for 10m\n");
    expect((await cli("overrides clear", { answers })).asked).toEqual([
      ["clearOverrides", { target: null, kind: null, actor: "tester" }],
    ]);
  });
});

describe("what people read", () => {
  it("durations, amounts, shares", () => {
    expect([0, 950, 12_000, 303_000, 7_440_000, 262_800_000].map(duration)).toEqual([
      "0ms",
      "950ms",
      "12s",
      "5m 3s",
      "2h 4m",
      "3d 1h",
    ]);
    expect([0, 950, 999.6, 12_345, 4_500_000].map(amount)).toEqual(["0", "950", "1.00k", "12.3k", "4.50M"]);
    expect([0, 0.5, 0.00005].map(percent)).toEqual(["0.0%", "50.0%", "0.005%"]);
    expect(["90s", "1h30m", "500ms", "5", "", "m5"].map(parseDuration)).toEqual([
      90_000,
      5_400_000,
      500,
      null,
      null,
      null,
    ]);
  });

  it("tables have no frame, numbers at the right, and a dash for nothing", () => {
    expect(
      table(
        ["name", "n"],
        [
          ["a", 5],
          ["", 100],
        ],
      ),
    ).toBe("NAME    N\na       5\n-     100\n");
  });
});
