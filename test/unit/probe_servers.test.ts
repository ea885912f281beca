// Probes of servers that speak protocols of their own: Redis, PostgreSQL, MySQL and SMTP, played by servers on
// the loopback that are well, busy, silent, slow, rude, or something else.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer, TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ActiveHealth, MysqlHealth, PostgresHealth, RedisHealth, SmtpHealth } from "../../src/model/health_check.ts";
import { createCertificate } from "../support/certificate.ts";
import { answering, freePort, listen, raw, run, say, TIMING, TLS } from "../support/probe_world.ts";

const REDIS: RedisHealth = { type: "redis", username: null, password: null, role: "any", tls: null, ...TIMING };
const POSTGRES: PostgresHealth = { type: "postgres", user: "pointsman", database: null, tls: null, ...TIMING };
const MYSQL: MysqlHealth = { type: "mysql", user: null, ...TIMING };
const SMTP: SmtpHealth = { type: "smtp", helloName: "lb.example", tls: null, ...TIMING };
const DAY_MS = 86_400_000;
const certificate = createCertificate("web.example", new Date(Date.now() - DAY_MS), new Date(Date.now() + 9 * DAY_MS));

/** Those that no protocol excuses. */
describe.each<[string, ActiveHealth, string]>([
  ["redis", REDIS, "waiting for the answer to PING"], ["postgres", POSTGRES, "waiting for the answer"],
  ["mysql", MYSQL, "waiting for the greeting"], ["smtp", SMTP, "waiting for the greeting"],
])("a server for %s", (_name, health, stage) => {
  it("that refuses, is silent or hangs up", async () => {
    expect((await run(await freePort(), health)).reason).toBe("connection refused");
    const silent = await raw((socket) => { socket.resume(); });
    expect((await run(silent, { ...health, timeoutMs: 400 })).reason).toBe(`timeout after 400 ms while ${stage}`);
    const hangingUp = await raw((socket) => { socket.end(); });
    expect((await run(hangingUp, health)).reason).toBe("connection closed without an answer");
    const resetting = await raw((socket) => { setTimeout(() => { socket.resetAndDestroy(); }, 20); });
    expect((await run(resetting, health)).reason).toMatch(/^connection (reset|closed)/);
  });

  it.each([
    ["HTTP", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"], ["SSH", "SSH-2.0-OpenSSH_9.2p1\r\n"],
    ["TLS", "\u0015\u0003\u0001\u0000\u0002\u0002\u0016"], ["zeros", "\u0000".repeat(3000)], ["noise", "\u00ff\u00fe\u001b[2J\u0007garbage\r\n"],
  ])("that speaks %s", async (_other, said) => {
    const port = await raw((socket) => {
      socket.on("data", () => {});
      socket.write(Buffer.from(said, "latin1"));
    });
    const outcome = await run(port, { ...health, timeoutMs: 400 });
    expect(outcome).toMatchObject({ ok: false, conclusive: true });
    expect(outcome.reason).not.toMatch(/[\u0000-\u001f]/);
  });

  it("that never stops is given up", async () => {
    const port = await raw((socket) => {
      const more = (): void => { while (!socket.destroyed && socket.write("x".repeat(8192))) { /* as much as goes */ } };
      socket.on("drain", more);
      socket.resume();
      more();
    });
    expect(await run(port, health)).toMatchObject({ ok: false, conclusive: true });
  });
});

describe("redis", () => {
  let directory = "";
  const password = (text: string): RedisHealth["password"] => {
    const path = join(directory, "password");
    writeFileSync(path, `${text}\n`, { mode: 0o600 });
    return { from: "file", path };
  };
  beforeAll(() => { directory = mkdtempSync(join(tmpdir(), "pointsman-redis-")); });
  afterAll(() => { rmSync(directory, { recursive: true, force: true }); });

  const ROLES = {
    master: "*3\r\n$6\r\nmaster\r\n:3129\r\n*0\r\n",
    replica: "*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:3129\r\n",
  };
  /** Answers by the first word. */
  const serve = (says: Readonly<Record<string, string>>, heard: string[] = [], slow = false, host = "127.0.0.1"): Promise<number> =>
    answering((bytes) => {
      const words = bytes.toString().split("\r\n").filter((_, at) => at > 0 && at % 2 === 0);
      heard.push(words.join(" "));
      return says[words[0] ?? ""] ?? "-ERR unknown command\r\n";
    }, slow, host);

  it.each([["127.0.0.1", false], ["127.0.0.1", true], ["::1", false]])("at %s is asked, slow: %s", async (host, slow) => {
    const heard: string[] = [];
    const port = await serve({ AUTH: "+OK\r\n", PING: "+PONG\r\n", ROLE: ROLES.master }, heard, slow, host);
    expect(await run(port, REDIS, host)).toMatchObject({ ok: true, conclusive: true, reason: "PONG" });
    const whole: RedisHealth = { ...REDIS, username: "probe", password: password("se cret"), role: "master" };
    expect(await run(port, whole, host)).toMatchObject({ ok: true, reason: "PONG, master" });
    expect(await run(port, { ...whole, username: null, role: "any" }, host)).toMatchObject({ ok: true });
    expect(heard).toEqual(["PING", "AUTH probe se cret", "PING", "ROLE", "AUTH se cret", "PING"]);
  });

  it("has its role judged", async () => {
    const port = await serve({ PING: "+PONG\r\n", ROLE: ROLES.replica });
    expect(await run(port, { ...REDIS, role: "replica" })).toMatchObject({ ok: true, reason: "PONG, replica" });
    expect(await run(port, { ...REDIS, role: "master" })).toMatchObject(
      { ok: false, conclusive: true, reason: "the server's role is replica, expected master" });
    const forbidding = await serve({ PING: "+PONG\r\n", ROLE: "-NOPERM this user has no permissions to run the 'role' command\r\n" });
    expect((await run(forbidding, { ...REDIS, role: "master" })).reason).toMatch(/^the server answered -NOPERM /);
  });

  it.each([
    "-LOADING Redis is loading the dataset in memory", "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "-NOAUTH Authentication required.", "-DENIED Redis is running in protected mode", "-ERR max number of clients reached",
  ])("is down by %s", async (said) => {
    const outcome = await run(await serve({ PING: `${said}\r\n` }), REDIS);
    expect(outcome).toMatchObject({ ok: false, conclusive: true, reason: `the server answered ${said}` });
  });

  it("never has its password told, whatever it answers", async () => {
    const unknown = await answering((bytes) => `-ERR unknown command 'AUTH', with args beginning with: '${bytes.toString().split("\r\n")[4]!.slice(0, 8)}\r\n`);
    expect((await run(unknown, { ...REDIS, password: password("hunter2") })).reason).toBe("the server answered -ERR to AUTH");
    const echoing = await answering((bytes) => bytes);
    expect((await run(echoing, { ...REDIS, password: password("hunter2") })).reason).not.toContain("hunter2");
    let secret = "";
    const late = await answering((bytes) => {
      const words = bytes.toString("latin1").split("\r\n");
      if (words[2] === "AUTH") secret = words[4]!;
      return words[2] === "AUTH" ? "+OK\r\n" : Buffer.from(`-ERR ${"x".repeat(100)} ${secret} and more\r\n`, "latin1");
    });
    for (const text of ["hunter2-is-a-rather-long-one", "grüß-dich"]) {
      const { reason } = await run(late, { ...REDIS, password: password(text) });
      expect(reason).toContain("xxx …");
      expect(reason).not.toMatch(/hunt|gr.{1,4}-dich/);
    }
    const missing: RedisHealth = { ...REDIS, password: { from: "file", path: join(directory, "none") } };
    expect(await run(echoing, missing)).toMatchObject({ ok: false, conclusive: false });
  });

  it("closes in the middle of an answer", async () => {
    const port = await raw((socket) => { socket.once("data", () => { socket.end("+PO"); }); });
    expect((await run(port, REDIS)).reason).toBe("connection closed in the middle of an answer");
  });

  it("is asked over TLS, whose certificate counts", async () => {
    const expired = createCertificate("web.example", new Date(Date.now() - 9 * DAY_MS), new Date(Date.now() - DAY_MS));
    for (const [shown, ok] of [[certificate, true], [expired, false]] as const) {
      let heard = 0;
      const server = createTlsServer(shown, (socket) => { socket.on("data", () => { heard += 1; socket.write("+PONG\r\n"); }); });
      const outcome = await run(await listen(server), { ...REDIS, tls: { ...TLS, failDays: 0 } });
      expect(outcome).toMatchObject({ ok, conclusive: true });
      expect(heard).toBe(ok ? 1 : 0);
    }
  });
});

const message = (type: string, body: string): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type, 0, "latin1");
  head.writeUInt32BE(Buffer.byteLength(body) + 4, 1);
  return Buffer.concat([head, Buffer.from(body)]);
};
const error = (code: string, words: string): Buffer => message("E", `SFATAL\0VFATAL\0C${code}\0M${words}\0\0`);
const SASL = message("R", "\0\0\0\u000aSCRAM-SHA-256\0\0");

describe("postgres", () => {
  it.each([["127.0.0.1", false], ["127.0.0.1", true], ["::1", false]])("at %s asks us to authenticate, slow: %s", async (host, slow) => {
    let heard = "";
    const port = await answering((bytes) => { heard = bytes.toString("latin1"); return SASL; }, slow, host);
    expect(await run(port, POSTGRES, host)).toMatchObject({ ok: true, conclusive: true, reason: "the server asks for SASL" });
    expect(heard).toContain("\0\u0003\0\0user\0pointsman\0database\0pointsman\0");
    await run(port, { ...POSTGRES, user: "monitor", database: "shop" }, host);
    expect(heard).toContain("user\0monitor\0database\0shop\0");
  });

  it.each([
    [message("R", "\0\0\0\0"), "the server lets us in"], [message("R", "\0\0\0\u0005abcd"), "the server asks for a password (md5)"],
    [message("R", "\0\0\0\u0063"), "the server asks for authentication 99"],
    [Buffer.concat([message("v", "\0\u0003\0\0\0\0\0\0"), SASL]), "the server asks for SASL"],
    [Buffer.concat([message("N", "SNOTICE\0Mhello\0\0"), SASL]), "the server asks for SASL"],
    [error("28000", 'no pg_hba.conf entry for host "10.0.0.9"'), 'the server answers, and refuses us: FATAL 28000: no pg_hba.conf entry for host "10.0.0.9"'],
    [error("3D000", 'database "pointsman" does not exist'), 'the server answers, and refuses us: FATAL 3D000: database "pointsman" does not exist'],
  ])("is up by %j", async (said, reason) => {
    expect(await run(await answering(() => said), POSTGRES)).toMatchObject({ ok: true, conclusive: true, reason });
  });

  it.each([
    ["57P03", "the database system is starting up"], ["57P03", "the database system is shutting down"],
    ["53300", "sorry, too many clients already"], ["58000", "could not open relation mapping file"],
  ])("is down by %s: %s", async (code, words) => {
    expect(await run(await answering(() => error(code, words)), POSTGRES)).toMatchObject(
      { ok: false, conclusive: true, reason: `the server answered FATAL ${code}: ${words}` });
  });

  it("is down by half an answer and by one that is too long", async () => {
    const half = await raw((socket) => { socket.once("data", () => { socket.end(SASL.subarray(0, 8)); }); });
    expect((await run(half, POSTGRES)).reason).toBe("connection closed in the middle of an answer");
    const long = await answering(() => Buffer.from("5200ffffff00", "hex"));
    expect((await run(long, POSTGRES)).reason).toMatch(/^not a PostgreSQL server: /);
  });

  /** Takes the request for TLS, and answers with these bytes; S goes on over TLS. */
  const offering = (letter: Buffer | string, tlsOf = certificate): Promise<number> => raw((socket: Socket) => {
    socket.once("data", () => {
      socket.write(letter);
      if (letter !== "S") return;
      const secure = new TLSSocket(socket, { isServer: true, ...tlsOf });
      secure.on("error", () => { /* the probe may not trust it */ });
      secure.on("data", () => { secure.write(SASL); });
    });
  });

  it("is asked for TLS first", async () => {
    const tls = { ...POSTGRES, tls: TLS };
    const outcome = await run(await offering("S"), tls);
    expect(outcome).toMatchObject({ ok: true, reason: "the server asks for SASL" });
    expect(outcome.certificate).toBeDefined();
    expect((await run(await offering("N"), tls)).reason).toBe("the server offers no TLS");
    expect((await run(await offering(error("53300", "too many")), tls)).reason).toBe("the server answered FATAL 53300: too many");
    expect((await run(await offering("HTTP/1.1 400"), tls)).reason).toMatch(/^not a PostgreSQL server: HTTP/);
    expect((await run(await offering(""), { ...tls, timeoutMs: 400 })).reason).toBe("timeout after 400 ms while asking for TLS");
    const hangingUp = await raw((socket) => { socket.once("data", () => { socket.end(); }); });
    expect((await run(hangingUp, tls)).reason).toBe("connection closed without an answer");
    expect((await run(await offering("S"), { ...tls, tls: { ...TLS, verify: true } })).reason).toMatch(/^the certificate /);
  });
});

/** A packet of MySQL's, as the first or a later one. */
const packet = (body: Buffer | string, sequence = 0): Buffer => {
  const bytes = Buffer.from(body as string, "latin1");
  return Buffer.concat([Buffer.of(bytes.length & 0xff, bytes.length >> 8, 0, sequence), bytes]);
};
const GREETING = packet("\u000a8.0.36\0\u0001\0\0\0abcdefgh\0\u00ff\u00f7\u0021\u0002\0\u00ff\u00df\u0015"
  + "\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0mysql_native_password\0");

describe("mysql", () => {
  it.each([["127.0.0.1", false], ["127.0.0.1", true], ["::1", false]])("at %s greets us, slow: %s", async (host, slow) => {
    const port = await raw((socket) => { void say(socket, GREETING, slow); }, host);
    expect(await run(port, MYSQL, host)).toMatchObject({ ok: true, conclusive: true, reason: "version 8.0.36" });
  });

  it.each([
    ["\u00ff\u0010\u0004Too many connections", "1040: Too many connections"],
    ["\u00ff\u0069\u0004Host '10.0.0.9' is blocked because of many connection errors",
      "1129: Host '10.0.0.9' is blocked because of many connection errors"],
    ["\u00ff\u0010\u0004#08004Too many connections", "1040: Too many connections"], ["\u00ff", "an error without a number"],
  ])("is down by %j", async (said, words) => {
    const port = await raw((socket) => { socket.write(packet(said)); });
    expect(await run(port, MYSQL)).toMatchObject({ ok: false, conclusive: true, reason: `the server answered ${words}` });
  });

  it("is down by half a greeting and by one of another protocol", async () => {
    const half = await raw((socket) => { socket.end(GREETING.subarray(0, 20)); });
    expect((await run(half, MYSQL)).reason).toBe("connection closed in the middle of an answer");
    const old = await raw((socket) => { socket.write(packet("\u00093.20\0")); });
    expect((await run(old, MYSQL)).reason).toMatch(/^not a MySQL server: /);
  });

  it.each([
    ["\0\0\0\u0002\0\0\0", true, "version 8.0.36, logged in"],
    ["\u00ff\u0015\u0004#28000Access denied for user 'probe'", false, "the server answered 1045: Access denied for user 'probe'"],
    ["\u00femysql_clear_password\0", false, "the server wants another way of authentication of this user"],
    ["garbage", false, "not an answer to a login: garbage"],
  ])("lets a user in, or not: %j", async (said, ok, reason) => {
    let login = "";
    const port = await raw((socket) => {
      socket.write(GREETING);
      socket.once("data", (heard: Buffer) => { login = heard.toString("latin1"); socket.write(packet(said, 2)); });
    });
    expect(await run(port, { ...MYSQL, user: "probe" })).toMatchObject({ ok, conclusive: true, reason });
    expect(login).toContain("probe\0\0mysql_native_password\0");
    expect(login.charCodeAt(3)).toBe(1);
  });
});

describe("smtp", () => {
  const replies = (greeting: string, ehlo: string, quit: string, heard: string[] = []) => async (slow: boolean, host = "127.0.0.1"): Promise<number> =>
    raw((socket) => {
      void say(socket, greeting, slow);
      socket.on("data", (bytes: Buffer) => {
        heard.push(bytes.toString());
        void say(socket, bytes.toString().startsWith("EHLO") ? ehlo : quit, slow);
      });
    }, host);
  const EHLO = "250-mail.example\r\n250-SIZE 1000\r\n250 HELP\r\n";

  it.each([["127.0.0.1", false], ["127.0.0.1", true], ["::1", false]])("at %s is greeted and left, slow: %s", async (host, slow) => {
    const heard: string[] = [];
    const port = await replies("220-mail.example ESMTP\r\n220 ready\r\n", EHLO, "221 bye\r\n", heard)(slow, host);
    expect(await run(port, SMTP, host)).toMatchObject({ ok: true, conclusive: true, reason: "220 ready" });
    expect(heard).toEqual(["EHLO lb.example\r\n", "QUIT\r\n"]);
  });

  it.each([
    ["421 too busy\r\n", EHLO, "421 too busy"], ["554-no\r\n554 service\r\n", EHLO, "554-no"], ["220 hi\r\n", "550 who are you\r\n", "550 who are you"],
    ["220 hi\r\n", "250-a\r\n421 going down\r\n", "421 going down"],
  ])("is down by %j and %j", async (greeting, ehlo, said) => {
    const port = await replies(greeting, ehlo, "221 bye\r\n")(false);
    expect(await run(port, SMTP)).toMatchObject({ ok: false, conclusive: true, reason: `the server answered ${said}` });
  });

  it("is down by half a line and where QUIT is not heard", async () => {
    const half = await raw((socket) => { socket.end("220 mai"); });
    expect((await run(half, SMTP)).reason).toBe("connection closed in the middle of an answer");
    const deaf = await replies("220 hi\r\n", EHLO, "")(false);
    expect((await run(deaf, { ...SMTP, timeoutMs: 400 })).reason).toBe("timeout after 400 ms while waiting for the answer to QUIT");
  });
});
