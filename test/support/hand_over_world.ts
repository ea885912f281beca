// An instance of the program as processes that follow one another, with an echo behind it, and clients
// that check each byte: for tests of the hand-over. Needs the build; everything is on the loopback.

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach } from "vitest";

const MAIN = join(import.meta.dirname, "../../dist/src/main.js");

export interface Answer {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class HandOverWorld {
  readonly directory = mkdtempSync(join(tmpdir(), "pm-hand-over-"));
  readonly file = join(this.directory, "c.yaml");
  readonly #env: NodeJS.ProcessEnv = {
    ...process.env, NO_COLOR: "1",
    POINTSMAN_RUN_DIRECTORY: join(this.directory, "run"), POINTSMAN_STATE_DIRECTORY: join(this.directory, "state"),
  };
  #child: ChildProcess | null = null;
  #log = "";
  readonly #closers: (() => Promise<unknown>)[] = [];
  ended: Promise<number | null> = Promise.resolve(null);

  /** A systemd that notes what it is told, as "PID ASSIGNMENT" of whoever tells it, in the order in which it comes. */
  withSystemd(): { told(): string[]; refuse(): void } {
    const [log, command] = [join(this.directory, "told"), join(this.directory, "systemd-notify")];
    const script = (...lines: readonly string[]): void => { writeFileSync(command, `#!/bin/sh\n${lines.join("\n")}\n`, { mode: 0o755 }); };
    writeFileSync(log, "");
    script(`[ "$NOTIFY_SOCKET" = /a/socket ] && echo "$PPID $*" >> ${log}`);
    Object.assign(this.#env, { NOTIFY_SOCKET: "/a/socket", PATH: `${this.directory}:${process.env["PATH"] ?? ""}` });
    return {
      told: () => readFileSync(log, "utf8").split("\n").slice(0, -1),
      refuse: () => { script("echo no bus >&2", "exit 1"); },
    };
  }

  write(yaml: string): void {
    writeFileSync(this.file, yaml);
  }

  /** A backend that sends back what it gets, on the loopback addresses of both families. */
  async echo(host: string): Promise<number> {
    const open = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      open.add(socket);
      socket.on("close", () => open.delete(socket));
      socket.on("error", () => { /* the other side says what happened */ });
      socket.pipe(socket);
    });
    this.#closers.push(() => new Promise((resolve) => {
      for (const socket of open) socket.destroy();
      server.close(resolve);
    }));
    return await listening(server, host);
  }

  /** A port that is free now. */
  async freePorts(host: string, count: number): Promise<number> {
    for (let attempt = 0; attempt < 50; attempt += 1) {
      const from = 20_000 + Math.floor(Math.random() * 12_000);
      const servers = await Promise.all(Array.from({ length: count }, async (_, index) => {
        const server = createServer();
        const got = await listening(server, host, from + index).catch(() => null);
        return { server, got };
      }));
      for (const { server, got } of servers) if (got !== null) await new Promise((done) => { server.close(done); });
      if (servers.every(({ got }) => got !== null)) return from;
    }
    throw new Error("no free ports");
  }

  async start(): Promise<number> {
    const child = spawn(process.execPath, [MAIN, "run", "-c", this.file], { env: this.#env, stdio: ["ignore", "ignore", "pipe"] });
    this.#child = child;
    child.stderr.on("data", (chunk: Buffer) => { this.#log += chunk.toString(); });
    this.ended = new Promise((resolve) => { child.on("exit", (code) => { resolve(code); }); });
    await this.until((line) => line["msg"] === "running");
    return child.pid ?? 0;
  }

  /** Every line that the processes have logged. */
  lines(): Record<string, unknown>[] {
    return this.#log.split("\n").flatMap((line) => {
      try {
        return [JSON.parse(line) as Record<string, unknown>];
      } catch {
        return [];
      }
    });
  }

  get text(): string { return this.#log; }

  async until(isIt: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> {
    for (;;) {
      const found = this.lines().find(isIt);
      if (found !== undefined) return found;
      const stderr = this.#child?.stderr;
      if (stderr?.closed !== false) throw new Error(`ended before:\n${this.#log}`);
      await new Promise<void>((resolve) => {
        const look = (): void => {
          stderr.off("data", look);
          stderr.off("close", look);
          resolve();
        };
        stderr.on("data", look);
        stderr.on("close", look);
      });
    }
  }

  /** A command, while our own sockets go on. */
  ask(...args: readonly string[]): Promise<Answer> {
    const child = spawn(process.execPath, [MAIN, ...args], { env: this.#env, stdio: ["ignore", "pipe", "pipe"] });
    const said = { stdout: "", stderr: "" };
    child.stdout.on("data", (chunk: Buffer) => { said.stdout += chunk.toString(); });
    child.stderr.on("data", (chunk: Buffer) => { said.stderr += chunk.toString(); });
    return new Promise((resolve) => { child.on("close", (status) => { resolve({ status, ...said }); }); });
  }

  async status(): Promise<Record<string, unknown>> {
    const { stdout, stderr, status } = await this.ask("status", "-o", "json");
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as Record<string, unknown>;
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  /** One that has logged a line. */
  kill(pid: number): void {
    if (this.lives(pid)) process.kill(pid, "SIGKILL");
  }

  /** A pid may be somebody else's by now. */
  lives(pid: number): boolean {
    const { stdout } = spawnSync("ps", ["-o", "args=", "-p", String(pid)], { encoding: "utf8" });
    return stdout.includes(this.file);
  }

  lockOwner(): number {
    return Number(readFileSync(join(this.directory, "run/main.lock"), "utf8").split(" ")[0]);
  }

  /** Ends whatever has logged a line: successors outlive a child that was killed. */
  async close(): Promise<void> {
    const pids = new Set(this.lines().map((line) => Number(line["pid"])));
    for (const pid of pids) this.kill(pid);
    await this.ended;
    for (const step of this.#closers.reverse()) await step();
    rmSync(this.directory, { recursive: true });
  }
}

/** Ends the world of each test of a file, and begins one for the next. */
export function renewAfterEach(world: () => HandOverWorld, begin: (fresh: HandOverWorld) => void): void {
  afterEach(async () => {
    await world().close();
    begin(new HandOverWorld());
  }, 30_000);
  afterAll(() => world().close()); // which no test has begun
}

function listening(server: Server, host: string, port = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, () => { resolve((server.address() as AddressInfo).port); });
  });
}

/** A connection that is open, and whatever became of it. */
export class HeldConnection {
  rounds = 0;
  error: string | null = null;
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  #isStopping = false;
  #isSilent = false;
  readonly #onRound: (() => void)[] = [];

  constructor(host: string, port: number) {
    const socket = connect({ host, port });
    this.#socket = socket;
    let sent = Buffer.alloc(0);
    let got = 0;
    const next = (): void => {
      sent = randomBytes(1 + Math.floor(Math.random() * 4096));
      got = 0;
      socket.write(sent);
    };
    socket.on("connect", next);
    socket.on("data", (chunk) => {
      if (!chunk.equals(sent.subarray(got, got + chunk.length))) this.error ??= "other bytes";
      got += chunk.length;
      if (got < sent.length) return;
      this.rounds += 1;
      for (const tell of this.#onRound.splice(0)) tell();
      if (this.#isStopping) socket.end();
      else if (!this.#isSilent) setImmediate(next);
    });
    socket.on("error", (error: NodeJS.ErrnoException) => { this.error ??= error.code ?? error.message; });
    this.closed = new Promise((resolve) => {
      socket.on("close", () => {
        if (!this.#isStopping) this.error ??= "closed";
        for (const tell of this.#onRound.splice(0)) tell();
        resolve();
      });
    });
  }

  /** Resolves after bytes have gone there and back that are not sent yet. */
  async goesOn(): Promise<void> {
    for (let round = 0; round < 2 && !this.#socket.closed; round += 1) {
      await new Promise<void>((resolve) => { this.#onRound.push(resolve); });
    }
  }

  /** Stays open without a word. (Of a reset that comes with data, Node tells the data and then an end.) */
  async fallSilent(): Promise<void> {
    this.#isSilent = true;
    await new Promise<void>((resolve) => { this.#onRound.push(resolve); });
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.closed;
  }
}

/** Connections one after another, each checked. */
export class ConnectStream {
  done = 0;
  readonly failures: string[] = [];
  readonly #running: Promise<void>[];
  #isStopping = false;

  /** To each of the ports by turns, so many at once. */
  constructor(host: string, ports: readonly number[], atOnce: number) {
    this.#running = Array.from({ length: atOnce }, async (_, index) => {
      for (let turn = index; !this.#isStopping; turn += 1) {
        const why = await connectOnce(host, ports[turn % ports.length]!);
        if (why === null) this.done += 1;
        else this.failures.push(why);
      }
    });
  }

  /** Resolves after so many more. */
  async goesOn(count: number): Promise<void> {
    const wanted = this.done + this.failures.length + count;
    while (this.done + this.failures.length < wanted) await new Promise((resolve) => { setImmediate(resolve); });
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#running);
  }
}

/** Null, or what went wrong. */
function connectOnce(host: string, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const sent = randomBytes(100);
    const got: Buffer[] = [];
    socket.on("connect", () => { socket.end(sent); });
    socket.on("data", (chunk) => { got.push(chunk); });
    socket.on("error", (error: NodeJS.ErrnoException) => { resolve(error.code ?? error.message); });
    socket.on("close", () => { resolve(Buffer.concat(got).equals(sent) ? null : "other bytes"); });
  });
}
