// An Env for tests: time that moves only when told to, seeded chance, files in memory, a log that
// is a list. Deterministic from its seed; must never read a real clock. Sockets and child processes
// are refused unless the test passes its own.

import type { Cancel, Clock, Env, Exec, Files, Log, Net, Random } from "../../src/env.ts";

export interface FakeEnvOptions {
  readonly seed?: number;
  /**
   * Wall clock at the start; 2026-01-01T00:00:00Z by default. The monotonic clock starts at one
   * hour.
   */
  readonly wallMs?: number;
  readonly net?: Net;
  readonly exec?: Exec;
  readonly variables?: Readonly<Record<string, string | undefined>>;
  readonly pid?: number;
  readonly uid?: number;
  readonly root?: string;
}

export interface LogEntry {
  readonly level: "error" | "warn" | "info" | "debug";
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly atMs: number;
}

export interface FakeFile {
  bytes: Uint8Array;
  mode: number;
}

export interface FakeEnv extends Env {
  /**
   * Fires the timers due within the next `ms` in order of time; between any two, promises settle.
   */
  advance(ms: number): Promise<void>;
  /** The same without letting promises settle in between. */
  advanceSync(ms: number): void;
  /** Moves the wall clock alone, as an operator or NTP does. */
  stepWall(ms: number): void;
  /** Timers that are set. */
  timers(): number;
  /** Milliseconds to the next timer, or null. */
  nextTimerMs(): number | null;
  readonly logged: LogEntry[];
  /** Messages of one level, or of all. */
  messages(level?: LogEntry["level"]): string[];
  readonly stored: Map<string, FakeFile>;
  readonly directories: Set<string>;
}

interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
}

/**
 * Uniform in [0, 1) from a 32-bit seed: splitmix32, a counter through a finaliser (Steele, Lea and
 * Flood 2014).
 */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state ^ (state >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a2d97);
    z ^= z >>> 15;
    return (z >>> 0) / 4_294_967_296;
  };
}

const START_MONOTONIC_MS = 3_600_000;

class FakeClock implements Clock {
  nowMs = START_MONOTONIC_MS;
  wallOffsetMs: number;
  readonly #timers = new Set<Timer>();
  #order = 0;

  constructor(wallMs: number) {
    this.wallOffsetMs = wallMs - START_MONOTONIC_MS;
  }
  wallMs(): number {
    return Math.floor(this.nowMs + this.wallOffsetMs);
  }
  monotonicMs(): number {
    return this.nowMs;
  }
  monotonicNs(): bigint {
    return BigInt(Math.round(this.nowMs * 1e6));
  }
  after(delayMs: number, callback: () => void): Cancel {
    this.#order += 1;
    const timer = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order, callback };
    this.#timers.add(timer);
    return () => { this.#timers.delete(timer); };
  }
  get size(): number {
    return this.#timers.size;
  }
  next(): Timer | null {
    let first: Timer | null = null;
    for (const timer of this.#timers) {
      if (first === null || timer.atMs < first.atMs || (timer.atMs === first.atMs && timer.order < first.order)) {
        first = timer;
      }
    }
    return first;
  }
  /**
   * Fires the next timer due by `untilMs`; false when there is none, and the time is then
   * `untilMs`.
   */
  step(untilMs: number): boolean {
    const timer = this.next();
    if (timer === null || timer.atMs > untilMs) {
      this.nowMs = untilMs;
      return false;
    }
    this.#timers.delete(timer);
    this.nowMs = Math.max(this.nowMs, timer.atMs);
    timer.callback();
    return true;
  }
}

/** Lets every promise that can settle do so. */
export function settle(): Promise<void> {
  return new Promise((resolve) => { setImmediate(resolve); });
}

export function createFakeEnv(options: FakeEnvOptions = {}): FakeEnv {
  const clock = new FakeClock(options.wallMs ?? Date.UTC(2026, 0, 1));
  const logged: LogEntry[] = [];
  const stored = new Map<string, FakeFile>();
  const directories = new Set<string>(["/"]);
  return {
    clock,
    random: createRandom(options.seed ?? 1),
    log: createLog(logged, clock),
    files: createFiles(stored, directories, options.uid ?? 0),
    net: options.net ?? NO_NET,
    exec: options.exec ?? NO_EXEC,
    predecessor: null,
    pid: options.pid ?? 4242,
    uid: options.uid ?? 0,
    variables: options.variables ?? {},
    root: options.root ?? "/fake-root",
    advance: async (ms) => {
      const untilMs = clock.nowMs + ms;
      await settle();
      while (clock.step(untilMs)) await settle();
    },
    advanceSync: (ms) => {
      const untilMs = clock.nowMs + ms;
      while (clock.step(untilMs)) { /* step does the work */ }
    },
    stepWall: (ms) => { clock.wallOffsetMs += ms; },
    timers: () => clock.size,
    nextTimerMs: () => {
      const timer = clock.next();
      return timer === null ? null : timer.atMs - clock.nowMs;
    },
    logged,
    messages: (level) => logged.filter((e) => level === undefined || e.level === level).map((e) => e.message),
    stored,
    directories,
  };
}

function createRandom(seed: number): Random {
  const next = seededRandom(seed);
  return { next, bytes: (length) => Uint8Array.from({ length }, () => Math.floor(next() * 256)) };
}

function createLog(logged: LogEntry[], clock: Clock): Log {
  const at = (level: LogEntry["level"]) => (fields: object, message: string): void => {
    logged.push({ level, message, fields: { ...fields }, atMs: clock.monotonicMs() });
  };
  return { error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") };
}

function parentOf(path: string): string {
  const end = path.lastIndexOf("/");
  return end <= 0 ? "/" : path.slice(0, end);
}

function createFiles(
  stored: Map<string, FakeFile>, directories: Set<string>, uid: number,
): Files {
  const makeDirectories = (path: string): void => {
    for (let d = path; !directories.has(d); d = parentOf(d)) directories.add(d);
  };
  const bytesOf = (data: Uint8Array | string): Uint8Array =>
    Uint8Array.from(typeof data === "string" ? Buffer.from(data) : data);
  return {
    read: (path) => {
      const file = stored.get(path);
      return file === undefined ? null : Uint8Array.from(file.bytes);
    },
    size: (path) => stored.get(path)?.bytes.length ?? null,
    writeAtomic: (path, bytes, mode) => {
      makeDirectories(parentOf(path));
      stored.set(path, { bytes: bytesOf(bytes), mode });
    },
    createExclusive: (path, text, mode) => {
      if (stored.has(path)) return false;
      makeDirectories(parentOf(path));
      stored.set(path, { bytes: bytesOf(text), mode });
      return true;
    },
    append: (path, text, mode) => {
      makeDirectories(parentOf(path));
      const before = stored.get(path);
      const bytes = Buffer.concat([before?.bytes ?? new Uint8Array(0), Buffer.from(text)]);
      stored.set(path, { bytes: Uint8Array.from(bytes), mode: before?.mode ?? mode });
    },
    remove: (path) => {
      stored.delete(path);
      directories.delete(path);
    },
    rename: (from, to) => {
      const file = stored.get(from);
      if (file === undefined) throw new Error(`there is no file ${from}`);
      stored.delete(from);
      stored.set(to, file);
    },
    list: (directory) => [...stored.keys(), ...directories]
      .filter((path) => path !== "/" && parentOf(path) === directory)
      .map((path) => path.slice(path.lastIndexOf("/") + 1))
      .sort(),
    makeDirectory: (path) => { makeDirectories(path); },
    exists: (path) => stored.has(path) || directories.has(path),
    entry: (path) => {
      if (directories.has(path)) return { kind: "directory", uid, mode: 0o700 };
      const file = stored.get(path);
      return file === undefined ? null : { kind: "other", uid, mode: file.mode };
    },
  };
}

function refuse(what: string): never {
  throw new Error(`this fake Env has no ${what}: pass one to createFakeEnv`);
}

const NO_NET: Net = {
  connect: () => refuse("sockets"),
  socket: () => refuse("sockets"),
  connectTls: () => refuse("sockets"),
  adopt: () => refuse("sockets"),
  createServer: () => refuse("sockets"),
  createDatagram: () => refuse("sockets"),
  localAddresses: () => ["127.0.0.1", "::1"],
};

const NO_EXEC: Exec = {
  run: () => Promise.reject(new Error("this fake Env has no child processes")),
  runGroup: () => Promise.reject(new Error("this fake Env has no child processes")),
  startSuccessor: () => { throw new Error("this fake Env has no child processes"); },
};
