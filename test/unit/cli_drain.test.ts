// `drain --wait`: what it prints to people on a terminal, to logs and to programs, and how it ends. The
// supervisor's answers are written down here; time is fake.

import { describe, expect, it } from "vitest";
import type { Client } from "../../src/api/client.ts";
import type { DrainView } from "../../src/api/schemas.ts";
import type { Io } from "../../src/cli/io.ts";
import { runCli } from "../../src/cli/program.ts";
import { Failure } from "../../src/errors.ts";
import { createFakeEnv, settle } from "../support/fake_env.ts";

const DRAIN: DrainView = {
  target: "web/a", actor: "tester", reason: null, startedAtMs: 0, deadlineAtMs: null, flows: { count: 3, kind: "exact" },
  certainAtMs: null, resets: ["web"], moves: [], end: null, endedAtMs: null,
};
const EMPTY: DrainView = { ...DRAIN, flows: { count: 0, kind: "exact" }, end: "empty", endedAtMs: 5000 };
const GONE = new Failure("INSTANCE_NOT_RUNNING", { instance: "main", socket: "/s" }, "nobody is there");

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly asked: number;
}

/** Each answer is given once, the last one again and again, with deadlines from now on; "interrupt": the user breaks off. */
async function wait(
  argv: string, answers: readonly (readonly DrainView[] | Error | "interrupt")[], tty = false,
): Promise<Ended> {
  const env = createFakeEnv();
  const startMs = env.clock.wallMs();
  const broken = new AbortController();
  const texts = { out: "", err: "" };
  let asked = 0;
  const client = {
    override: (request: { change: unknown }) =>
      Promise.resolve({ target: "web/a", change: request.change, atMs: 0, expiresAtMs: null }),
    drains: () => {
      const answer = answers[Math.min(asked, answers.length - 1)]!;
      asked += 1;
      if (answer === "interrupt") broken.abort();
      if (answer instanceof Error) return Promise.reject(answer);
      const drains = answer === "interrupt" ? [DRAIN] : answer;
      return Promise.resolve(drains.map((each) =>
        ({ ...each, deadlineAtMs: each.deadlineAtMs === null ? null : startMs + each.deadlineAtMs })));
    },
    close: () => Promise.resolve(),
  } as unknown as Client;
  const io: Io = {
    env, isTty: tty, columns: 80, actor: "tester",
    out: (text) => { texts.out += text; },
    err: (text) => { texts.err += text; },
    confirm: () => Promise.resolve(false),
    interrupted: broken.signal,
    onHangup: () => () => undefined, onUpgradeSignal: () => () => undefined,
    connect: () => client,
  };
  let code: number | null = null;
  void runCli(argv.split(" "), io).then((ended) => { code = ended; });
  for (let turn = 0; code === null && turn < 1000; turn++) {
    await settle();
    if (env.nextTimerMs() !== null) await env.advance(500);
  }
  if (code === null) throw new Error(`never ended: ${texts.out}`);
  return { code, ...texts, asked };
}

describe("drain --wait", () => {
  it("writes a line for each change, with the kind of its count, and ends with the last flow", async () => {
    const two = { ...DRAIN, flows: { count: 2, kind: "exact" as const } };
    const ended = await wait("drain a --wait", [[DRAIN], [DRAIN], [two], [two], [EMPTY]]);
    expect(ended).toMatchObject({ code: 0, err: "", asked: 5 });
    expect(ended.out.split("\n")).toEqual([
      "web/a: draining until cleared",
      "web/a: draining, 3 flow(s) left (exact)", "web/a: draining, 2 flow(s) left (exact)",
      "web/a: drained, no flow is left (exact)", "",
    ]);
  });

  it("rewrites one line on a terminal, with the time that is left, no longer than the line", async () => {
    const timed = { ...DRAIN, deadlineAtMs: 300_000 };
    const ended = await wait("drain a --wait --timeout 5m", [[timed], [timed], [{ ...timed, flows: { count: 0, kind: "exact" }, end: "empty" }]], true);
    expect(ended.out.split("\n")).toEqual([
      "web/a: draining, at most 5m, until cleared", expect.any(String), "",
    ]);
    const lines = ended.out.split("\n")[1]!.split("\r\u001b[K");
    expect(lines).toEqual(["",
      "web/a: draining, 3 flow(s) left (exact); 5m left", expect.stringMatching(/3 flow\(s\) left \(exact\); 4m 59s left/),
      "web/a: drained, no flow is left (exact)"]);
  });

  it("writes one object a line at changes for programs, and nothing else", async () => {
    const ended = await wait("drain a --wait -o json", [[DRAIN], [DRAIN], [EMPTY]]);
    expect(ended.out.trimEnd().split("\n").map((each) => JSON.parse(each) as unknown)).toEqual([DRAIN, EMPTY]);
  });

  it.each([
    [{ resets: ["web"], moves: [] }, "3 flow(s) (exact) are reset"],
    [{ resets: [], moves: ["web"] }, "3 flow(s) (exact) are sent to other backends, which do not know them"],
    [{ resets: ["a"], moves: ["b"] },
      "3 flow(s) (exact) are reset (a) or sent to other backends, which do not know them (b)"],
  ])("says at the deadline what became of the rest: %j", async (services, rest) => {
    const ended = await wait("drain a --wait --timeout 1s", [[{ ...DRAIN, ...services, deadlineAtMs: 1000, end: "deadline" }]]);
    expect([ended.code, ended.out.split("\n").at(-2)]).toEqual([0, `web/a: drained, its time is over: ${rest}`]);
  });

  it("says when nobody can tell, and why none is not the end yet", async () => {
    const unknown = await wait("drain a --wait", [[{ ...DRAIN, flows: { count: null, kind: "unknown" } }], [EMPTY]]);
    expect(unknown.out).toContain("nobody can tell how many flows are left (unknown)");
    const silent = await wait("drain a --wait", [[{ ...DRAIN, flows: { count: 0, kind: "estimated" }, certainAtMs: 9 }], [EMPTY]]);
    expect(silent.out).toContain("0 flow(s) left (estimated), until all that may be silent have had their time");
  });

  it("broken off, leaves the drain in force and says so", async () => {
    const ended = await wait("drain a --wait", [[DRAIN], "interrupt"]);
    expect([ended.code, ended.err]).toEqual([1, "web/a: no longer waiting; the drain stays in force (undrain ends it)\n"]);
  });

  it.each([["cleared", []], ["replaced", [{ ...DRAIN, startedAtMs: 7 }]]])("ends when the drain is %s", async (_, drains) => {
    const ended = await wait("drain a --wait", [[DRAIN], drains]);
    expect([ended.code, ended.err]).toEqual([1, "web/a: the drain was cleared, replaced or has expired before its end\n"]);
  });

  it("waits for an instance that is being restarted, but not for ever", async () => {
    expect(await wait("drain a --wait", [[DRAIN], GONE, GONE, [EMPTY]])).toMatchObject({ code: 0, asked: 4 });
    const silent = await wait("drain a --wait", [[DRAIN], GONE]);
    expect([silent.code, silent.err]).toEqual([
      1, "web/a: the instance has been silent for 1m; the drain stays in force (undrain ends it)\n",
    ]);
    await expect(wait("drain a --wait", [new Error("a bug")])).resolves.toMatchObject({ code: 70 });
  });
});
