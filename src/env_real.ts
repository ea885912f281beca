// The Env of the real world: system clocks, the file system, Node's sockets, child processes and a
// log on stderr. Knows Node and pino; must never know a service, a pool or any other word of the
// domain.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import * as fs from "node:fs";
import { connect, createServer, Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { basename, dirname, join } from "node:path";
import { connect as connectTls } from "node:tls";
import { fileURLToPath } from "node:url";
import { pino } from "pino";
import type { Clock, Env, Exec, Files, Log, Net, Random } from "./env.ts";
import { runGroup } from "./env_group.ts";
import { findPredecessor, startSuccessor } from "./env_peer.ts";
import { parseAddress } from "./model/address.ts";

export type LogLevel = "error" | "warn" | "info" | "debug";

export interface EnvOptions {
  /** info by default. */
  readonly logLevel?: LogLevel;
  /** Package root; found from this file's own place when absent. */
  readonly root?: string;
  /** Where log lines go; stderr by default. */
  readonly logTo?: { write(line: string): unknown };
  /** One readable line instead of JSON; by default when stderr is a terminal. */
  readonly logReadable?: boolean;
}

/** The real Env, and the one thing about it that a reload may change. */
export interface RealEnv extends Env {
  setLogLevel(level: LogLevel): void;
}

export function createEnv(options: EnvOptions = {}): RealEnv {
  const { log, setLevel } = createLog(options);
  return {
    clock: realClock,
    random: realRandom,
    log,
    files: realFiles,
    net: realNet,
    exec: realExec,
    predecessor: findPredecessor(),
    pid: process.pid,
    uid: process.getuid?.() ?? -1,
    variables: process.env,
    root: options.root ?? packageRoot(),
    setLogLevel: setLevel,
  };
}

/**
 * The nearest directory above this file that holds package.json: right in the checkout and in
 * dist/.
 */
function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    if (fs.existsSync(join(directory, "package.json"))) return directory;
    const parent = dirname(directory);
    if (parent === directory) throw new Error(`no package.json above ${import.meta.url}`);
    directory = parent;
  }
}

// ---- time and chance

/** setTimeout turns longer delays into 1 ms. */
const TIMER_MAX_MS = 2_147_483_647;

const realClock: Clock = {
  wallMs: () => Date.now(),
  monotonicNs: () => process.hrtime.bigint(),
  monotonicMs: () => Number(process.hrtime.bigint()) / 1e6,
  after: (delayMs, callback, hold = false) => {
    let timer: NodeJS.Timeout;
    const arm = (restMs: number): void => {
      const stepMs = Math.min(restMs, TIMER_MAX_MS);
      timer = setTimeout(() => {
        if (restMs > stepMs) arm(restMs - stepMs);
        else callback();
      }, stepMs);
      if (!hold) timer.unref();
    };
    arm(Math.max(0, delayMs));
    return () => { clearTimeout(timer); };
  },
};

const realRandom: Random = {
  next: () => Math.random(),
  bytes: (length) => Uint8Array.from(randomBytes(length)),
};

// ---- files

function codeOf(error: unknown): string | null {
  if (!(error instanceof Error) || !("code" in error)) return null;
  return typeof error.code === "string" ? error.code : null;
}

/** The value, or `missing` when there is no such file (or a parent is not a directory). */
function unlessMissing<T, M>(missing: M, read: () => T): T | M {
  try {
    return read();
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return missing;
    throw error;
  }
}

let temporaryFiles = 0;

function writeAtomic(path: string, bytes: Uint8Array | string, mode: number): void {
  const directory = dirname(path);
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  temporaryFiles += 1;
  const temporary = join(directory, `.${basename(path)}.${process.pid}.${temporaryFiles}.tmp`);
  const fd = fs.openSync(temporary, "wx", mode);
  try {
    try {
      fs.fchmodSync(fd, mode); // open() lets the umask take bits away
      fs.writeFileSync(fd, bytes);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(temporary, path);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  }
  syncDirectory(directory);
}

/**
 * A link has its text from the first moment, where open with O_EXCL would show an empty file for a
 * while.
 */
function createExclusive(path: string, text: string, mode: number): boolean {
  const directory = dirname(path);
  fs.mkdirSync(directory, { recursive: true, mode: 0o755 });
  temporaryFiles += 1;
  const temporary = join(directory, `.${basename(path)}.${process.pid}.${temporaryFiles}.tmp`);
  fs.writeFileSync(temporary, text, { flag: "wx", mode });
  try {
    fs.linkSync(temporary, path);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  } finally {
    fs.rmSync(temporary, { force: true });
  }
}

/**
 * Makes a rename survive a power cut. Some file systems refuse to sync a directory; the file is
 * whole anyway.
 */
function syncDirectory(directory: string): void {
  try {
    const fd = fs.openSync(directory, "r");
    try { fs.fsyncSync(fd); } finally { fs.closeSync(fd); }
  } catch (error) {
    if (!["EINVAL", "EISDIR", "EPERM", "EACCES"].includes(codeOf(error) ?? "")) throw error;
  }
}

/** Regular files have a size to judge before; what has none, such as a device, must end by here. */
const ENDLESS_BYTES = 64 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;

/** The whole file. A device or pipe that goes on and on is refused, for it would fill the memory. */
function readBounded(path: string): Uint8Array {
  // Opening a pipe that nobody writes to would wait for ever.
  const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  try {
    if (fs.fstatSync(fd).isFile()) return Uint8Array.from(fs.readFileSync(fd));
    const chunks: Uint8Array[] = [];
    for (let total = 0; total <= ENDLESS_BYTES;) {
      const chunk = new Uint8Array(CHUNK_BYTES);
      const length = readPatiently(fd, chunk, path);
      if (length === 0) return Uint8Array.from(Buffer.concat(chunks));
      chunks.push(chunk.subarray(0, length));
      total += length;
    }
    throw new RangeError(`${path} is no regular file and has no end after ${ENDLESS_BYTES} bytes`);
  } finally {
    fs.closeSync(fd);
  }
}

/** A pipe whose writer has not written yet says EAGAIN; a writer that stays silent is not waited for longer. */
const WRITER_PATIENCE_MS = 5000;
const WRITER_POLL_MS = 10;

function readPatiently(fd: number, chunk: Uint8Array, path: string): number {
  for (let waitedMs = 0; waitedMs < WRITER_PATIENCE_MS; waitedMs += WRITER_POLL_MS) {
    try {
      return fs.readSync(fd, chunk);
    } catch (error) {
      if (codeOf(error) !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WRITER_POLL_MS);
    }
  }
  throw new Error(`nothing was written to ${path} for ${WRITER_PATIENCE_MS} ms`);
}

const realFiles: Files = {
  read: (path) => unlessMissing(null, () => readBounded(path)),
  size: (path) => unlessMissing(null, () => fs.statSync(path).size),
  writeAtomic,
  createExclusive,
  append: (path, text, mode) => {
    fs.mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    fs.appendFileSync(path, text, { mode });
  },
  remove: (path) => {
    unlessMissing(undefined, () => {
      if (fs.lstatSync(path).isDirectory()) fs.rmdirSync(path);
      else fs.unlinkSync(path);
    });
  },
  rename: (from, to) => { fs.renameSync(from, to); },
  list: (directory) =>
    unlessMissing<string[], string[]>([], () => fs.readdirSync(directory).sort()),
  makeDirectory: (path, mode) => { fs.mkdirSync(path, { recursive: true, mode }); },
  exists: (path) => fs.existsSync(path),
  entry: (path) => unlessMissing(null, () => {
    const stat = fs.lstatSync(path);
    const kind = stat.isSymbolicLink() ? "link" : stat.isDirectory() ? "directory" : "other";
    return { kind, uid: stat.uid, mode: stat.mode & 0o7777 };
  }),
};

// ---- sockets

const realNet: Net = {
  connect: (options) => connect(options),
  socket: () => new Socket(),
  connectTls: (options) => connectTls(options),
  adopt: (descriptor) => {
    try {
      return new Socket({ fd: descriptor, readable: true, writable: true });
    } catch (error) {
      fs.closeSync(descriptor);
      throw error;
    }
  },
  createServer: (options, onConnection) => createServer(options, onConnection),
  createDatagram: (options) => createSocket(options),
  localAddresses: () => {
    const found = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
    const texts = found.map((entry) => parseAddress(entry.address)?.text ?? null);
    return [...new Set(texts.filter((text) => text !== null))].sort();
  },
};

// ---- child processes

const OUTPUT_MAX_BYTES = 1 << 20;
/** As a shell reports them: not found, and ended by a signal or cut off by us. */
const STATUS_NOT_RUN = 127;
const STATUS_KILLED = 137;

const realExec: Exec = {
  run: (command, args, timeoutMs) => new Promise((resolve) => {
    const settings = {
      timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: OUTPUT_MAX_BYTES, encoding: "utf8",
    } as const;
    const child = execFile(command, [...args], settings, (error, stdout, stderr) => {
      const said = stderr === "" ? error?.message ?? "" : stderr;
      resolve({ status: exitStatus(error), stdout, stderr: said });
    });
    child.stdin?.on("error", () => { /* a child that is gone: its status says enough */ });
    child.stdin?.end();
  }),
  runGroup,
  startSuccessor,
};

function exitStatus(error: Error | null): number {
  if (error === null) return 0;
  if ("code" in error && typeof error.code === "number") return error.code;
  return codeOf(error) === "ENOENT" || codeOf(error) === "EACCES" ? STATUS_NOT_RUN : STATUS_KILLED;
}

// ---- the log

function createLog(options: EnvOptions): { log: Log; setLevel: (level: LogLevel) => void } {
  const toStderr = options.logTo === undefined;
  const target = options.logTo ?? pino.destination({ fd: 2, sync: true });
  const isTerminal = toStderr && process.stderr.isTTY;
  const isReadable = options.logReadable ?? isTerminal;
  const isColoured = isTerminal && (process.env["NO_COLOR"] ?? "") === "";
  const destination = isReadable
    ? { write: (line: string): void => { target.write(readableLine(line, isColoured)); } }
    : { write: (line: string): void => { target.write(line); } };
  const logger = pino({
    level: options.logLevel ?? "info",
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { err: pino.stdSerializers.err, error: pino.stdSerializers.err },
  }, destination);
  const log: Log = {
    error: (fields, message) => { logger.error(fields, message); },
    warn: (fields, message) => { logger.warn(fields, message); },
    info: (fields, message) => { logger.info(fields, message); },
    debug: (fields, message) => { logger.debug(fields, message); },
  };
  return { log, setLevel: (level) => { logger.level = level; } };
}

const LEVEL_COLOURS: Readonly<Record<string, string>> = {
  error: "31", warn: "33", info: "36", debug: "90",
};

/** `12:00:00.000 info  message key=value …` out of one JSON line. */
export function readableLine(line: string, isColoured: boolean): string {
  const { level, time, pid: _pid, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const label = String(level).padEnd(5);
  const colour = LEVEL_COLOURS[String(level)] ?? "0";
  const pairs = Object.entries(fields).map(([key, value]) => `${key}=${readableValue(value)}`);
  const head = isColoured ? `\u001b[${colour}m${label}\u001b[0m` : label;
  return `${[String(time).slice(11, 23), head, String(msg), ...pairs].join(" ")}\n`;
}

function readableValue(value: unknown): string {
  if (typeof value === "string") return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
  if (typeof value === "object" && value !== null && "message" in value && "stack" in value) {
    return JSON.stringify(value.message);
  }
  return JSON.stringify(value);
}
