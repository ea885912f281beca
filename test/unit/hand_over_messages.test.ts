// What two processes of an instance say to each other, with one of them played by the test: of an earlier format, of
// a later one, or gone. No process, no socket.

import { createSocket } from "node:dgram";
import { describe, expect, it } from "vitest";
import type { SessionReceiver, SessionSharing } from "../../src/dataplane/dataplane.ts";
import type { Peer, SharedSocket, SuccessorProcess } from "../../src/env.ts";
import type { Config } from "../../src/model/config.ts";
import { datagramsTo } from "../../src/supervisor/datagram_channel.ts";
import { Predecessor } from "../../src/supervisor/predecessor.ts";
import { handOver, type Estate } from "../../src/supervisor/successor.ts";
import { createFakeEnv, settle } from "../support/fake_env.ts";

type Message = Readonly<Record<string, unknown>>;

/** The other process: what it was sent, and what it says. */
class Other implements SuccessorProcess {
  readonly pid = 7;
  readonly heard: Message[] = [];
  say: (message: unknown, socket: SharedSocket | null) => void = () => undefined;
  end: (status: number) => void = () => undefined;
  readonly ended = new Promise<number>((resolve) => { this.end = resolve; });
  readonly closed = this.ended.then(() => undefined);
  readonly #answer: (message: Message) => unknown;

  constructor(answer: (message: Message) => unknown = () => null) {
    this.#answer = answer;
  }

  send(message: object): Promise<void> {
    this.heard.push(message as Message);
    const answer = this.#answer(message as Message);
    if (answer !== null) setImmediate(() => { this.say(answer, null); });
    return Promise.resolve();
  }

  onMessage(listener: Parameters<Peer["onMessage"]>[0]): void { this.say = listener; }
  close(): void { /* nothing is open */ }
  signal(): void { this.end(137); }
}

const CONFIG = { instance: "main", dataplane: { mode: "proxy" } } as Config;
const HELLO = { type: "hello", version: "0", instance: "main", mode: "proxy" };

function estate(sharing: SessionSharing): Estate & { readonly asked: string[] } {
  const asked: string[] = [];
  const note = (what: string) => (): Promise<void> => {
    asked.push(what);
    return Promise.resolve();
  };
  return {
    asked, instance: "main", plane: { reason: "test", remedy: null },
    bequest: {
      sharedSocket: () => null,
      shareSessions: () => {
        asked.push("share");
        return sharing;
      },
      heldFlows: () => ({ services: { web: 2 }, backends: { "web/a": 2 } }),
      endFlows: (backends) => { asked.push(`end ${[...backends].join(" ")}`); },
    },
    served: () => new Set(), freeze: note("freeze"), closeControl: note("close"), openControl: note("open"), giveLock: note("lock"),
  };
}

/** Notes what is asked of it. */
function fakeSharing(log: string[]): SessionSharing {
  return {
    share: (key) => { log.push(`share ${key}`); },
    receive: ({ key, address, port, bytes }) => { log.push(`receive ${key} ${address} ${port} ${Buffer.from(bytes).toString()}`); },
    settled: (ms) => {
      log.push(`settled ${ms}`);
      return Promise.resolve();
    },
    leave: (pass) => {
      log.push("leave");
      pass({ key: "k", address: "192.0.2.1", port: 5, bytes: Buffer.from("late") });
      return { busy: [2], ended: [3], leftBehind: 4 };
    },
    close: () => { log.push("close"); },
    undo: () => { log.push("undo"); },
  };
}

describe("the process that hands over", () => {
  it("shares sessions with one that speaks format 2, and says last what became of them", async () => {
    const log: string[] = [];
    const other = new Other();
    const old = estate(fakeSharing(log));
    const heir = handOver(old, { ...createFakeEnv(), exec: { startSuccessor: () => other } as never });
    const { say } = other;
    say({ ...HELLO, format: 1, newest: 3 }, null);
    say({ type: "want", key: "udp 127.0.0.1:53" }, null);
    say({ type: "datagram", key: "udp 127.0.0.1:53", address: "192.0.2.7", port: 9, bytes: Buffer.from("hi").toString("base64") }, null);
    await settle();
    say({ type: "datagram", key: "udp 127.0.0.1:53", address: "192.0.2.7", port: 9, bytes: Buffer.from("ho").toString("base64") }, null);
    say({ type: "control" }, null);
    say({ type: "serving", error: null, unserved: {} }, null);
    const { tell } = await heir;
    tell({ services: { web: 1 }, backends: { "web/a": 1 } });
    say({ type: "endFlows", backends: ["web/a", "web/b"] }, null);
    expect(old.asked.at(-1)).toBe("end web/a web/b");
    expect(log).toEqual([
      "share udp 127.0.0.1:53", "receive udp 127.0.0.1:53 192.0.2.7 9 ho", "settled 30000", "settled 1000", "leave", "close",
    ]);
    expect(other.heard).toEqual([
      { type: "go", format: 2, reason: "test", remedy: null }, { type: "socket", key: "udp 127.0.0.1:53" }, { type: "yours" },
      { type: "datagram", key: "k", address: "192.0.2.1", port: 5, bytes: Buffer.from("late").toString("base64") },
      { type: "left", busy: [2], ended: [3], leftBehind: 4, held: { services: { web: 2 }, backends: { "web/a": 2 } } },
      { type: "held", held: { services: { web: 1 }, backends: { "web/a": 1 } } },
    ]);
  });

  it("shares none with one of format 1, and says so", async () => {
    const log: string[] = [];
    const other = new Other();
    const env = createFakeEnv();
    const old = estate(fakeSharing(log));
    const heir = handOver(old, { ...env, exec: { startSuccessor: () => other } as never });
    for (const message of [{ ...HELLO, format: 1 }, { type: "want", key: "k" }, { type: "control" }, { type: "serving", error: null, unserved: {} }]) {
      other.say(message, null);
    }
    await heir;
    expect([log, old.asked]).toEqual([[], ["freeze", "close", "lock"]]);
    expect(other.heard[0]).toMatchObject({ type: "go", format: 1 });
    expect(env.messages("warn")).toEqual(["the new process takes no UDP sessions: clients begin new ones, from other source ports"]);
  });

  it("declines one that speaks later formats alone, and takes sessions back from one that ends", async () => {
    const log: string[] = [];
    const late = new Other();
    const env = createFakeEnv();
    const declined = handOver(estate(fakeSharing(log)), { ...env, exec: { startSuccessor: () => late } as never });
    late.say({ ...HELLO, format: 3, newest: 4 }, null);
    late.end(1);
    await expect(declined).rejects.toThrow("it speaks format 3 of the hand-over and later ones, and this one 2");
    const dying = new Other();
    const undone = handOver(estate(fakeSharing(log)), { ...env, exec: { startSuccessor: () => dying } as never });
    dying.say({ ...HELLO, format: 1, newest: 2 }, null);
    dying.end(137);
    await expect(undone).rejects.toThrow("it ended with status 137");
    expect(log).toEqual(["undo"]);
  });
});

describe("the process that takes over", () => {
  const taking = (answer: (message: Message) => unknown): { other: Other; predecessor: Predecessor } => {
    const other = new Other(answer);
    return { other, predecessor: new Predecessor(other) };
  };

  it("offers the oldest format that it speaks, and gets no sessions from a process of format 1", async () => {
    const { other, predecessor } = taking(() => ({ type: "go", reason: "r", remedy: null }));
    expect(await predecessor.begin(CONFIG, "1.0")).toEqual({ reason: "r", remedy: null });
    expect(other.heard).toEqual([{ type: "hello", format: 1, newest: 2, version: "1.0", instance: "main", mode: "proxy" }]);
    expect(predecessor.forPlane().sharesSessions).toBe(false);
  });

  it("tells the plane of sessions, of datagrams and of the last word, or of an end without one", async () => {
    const heard: unknown[] = [];
    const receiver: SessionReceiver = {
      adopt: ({ id, isNamed }) => { heard.push(["session", id, isNamed]); },
      receive: ({ bytes }) => { heard.push(Buffer.from(bytes).toString()); },
      decide: (lastWord) => { heard.push(lastWord); },
    };
    for (const hasLastWord of [true, false]) {
      const { other, predecessor } = taking(({ type }) => (type === "hello" ? { type: "go", format: 2, reason: "r", remedy: null } : null));
      await predecessor.begin(CONFIG, "1.0");
      const plane = predecessor.forPlane();
      plane.onSessions(receiver);
      const socket = createSocket("udp4");
      const session = { type: "session", id: 1, key: "k", address: "a", port: 1, isNamed: true, backend: "1", proxyProtocol: "none", idleMs: 0 };
      other.say(session, socket);
      other.say(session, null); // closed on the way
      other.say({ type: "from a later format" }, null);
      if (hasLastWord) other.say({ type: "left", busy: [1], leftBehind: 2 }, null);
      else other.end(137);
      await settle();
      other.say({ type: "datagram", key: "k", address: "a", port: 1, bytes: Buffer.from("x").toString("base64") }, null);
      socket.close();
      expect(plane.sharesSessions).toBe(true);
      expect(heard.splice(0)).toEqual([["session", 1, true], hasLastWord
        ? { type: "left", busy: [1], ended: [], leftBehind: 2, held: { services: {}, backends: {} } } : null, "x"]);
    }
  });

  it("counts what the other process has still until that is gone, and has it end flows once it has left", async () => {
    const { other, predecessor } = taking(({ type }) => (type === "hello" ? { type: "go", format: 2, reason: "r", remedy: null } : null));
    await predecessor.begin(CONFIG, "1.0");
    const plane = predecessor.forPlane();
    plane.endFlows(new Set(["web/a"]));
    expect([plane.heldFlows(), predecessor.hasFlows, plane.isServing()]).toEqual([{ services: {}, backends: {} }, false, true]);
    other.say({ type: "left", held: { services: { web: 2 }, backends: { "web/b": 2 } } }, null);
    plane.endFlows(new Set(["web/b"]));
    expect(other.heard.slice(1)).toEqual([{ type: "endFlows", backends: ["web/a"] }, { type: "endFlows", backends: ["web/b"] }]);
    expect([plane.heldFlows().services, predecessor.hasFlows]).toEqual([{ web: 2 }, true]);
    other.say({ type: "held", held: { services: { web: 1 }, backends: { "web/b": 1 } } }, null);
    expect([plane.heldFlows().backends, plane.isServing()]).toEqual([{ "web/b": 1 }, true]);
    other.say({ type: "held", held: { services: {}, backends: {} } }, null);
    expect(plane.isServing()).toBe(false);
    other.end(0);
    await settle();
    expect([plane.heldFlows().backends, predecessor.hasFlows]).toEqual([{}, false]);
  });
});

it("passes on no more datagrams than fit", async () => {
  const sent: (() => void)[] = [];
  const pass = datagramsTo({ send: () => new Promise((resolve) => { sent.push(resolve); }) });
  const datagram = { key: "k", address: "a", port: 1, bytes: new Uint8Array(60_000) };
  let passed = 0;
  while (pass(datagram)) passed += 1;
  expect(passed).toBe(Math.floor((4 << 20) / 60_256));
  sent[0]!();
  await settle();
  expect([pass(datagram), pass(datagram)]).toEqual([true, false]);
});
