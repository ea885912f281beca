// The one door through which time, randomness, files, sockets and child processes enter. The real one
// is built in main.ts and tests build a simulated one; nothing else in src reads a clock or opens a socket.

import type { Socket as DatagramSocket, SocketOptions as DatagramOptions } from "node:dgram";
import type { NetConnectOpts, Server, ServerOpts, Socket } from "node:net";
import type { ConnectionOptions, TLSSocket } from "node:tls";

/** Cancels; harmless when late or repeated. */
export type Cancel = () => void;

export interface Clock {
  /** Wall clock, milliseconds since the epoch. For people and records only. */
  wallMs(): number;
  /** CLOCK_MONOTONIC, nanoseconds: the clock of bpf_ktime_get_ns(). */
  monotonicNs(): bigint;
  /** CLOCK_MONOTONIC, milliseconds (fractional). */
  monotonicMs(): number;
  /** Calls back once after so many milliseconds. The timer does not keep the process alive unless `hold`. */
  after(delayMs: number, callback: () => void, hold?: boolean): Cancel;
}

export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** Unpredictable bytes, for seeds. */
  bytes(length: number): Uint8Array;
}

export interface Log {
  error(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  info(fields: object, message: string): void;
  debug(fields: object, message: string): void;
}

/** What lies at a path itself: a symbolic link is not followed. */
export interface FileEntry {
  readonly kind: "directory" | "link" | "other";
  readonly uid: number;
  /** Permission bits. */
  readonly mode: number;
}

export interface Files {
  /** Whole file, or null when it does not exist. Other errors throw. */
  read(path: string): Uint8Array | null;
  /** Size in bytes, or null when it does not exist. */
  size(path: string): number | null;
  /** Writes a temporary sibling, fsyncs, renames. Creates parent directories (0700). */
  writeAtomic(path: string, bytes: Uint8Array | string, mode: number): void;
  /** Creates the file with this text, all at once. False when it exists. Creates parent directories (0755). */
  createExclusive(path: string, text: string, mode: number): boolean;
  append(path: string, text: string, mode: number): void;
  /** A file, or an empty directory; harmless when it does not exist. */
  remove(path: string): void;
  /** Takes the place of what is there, in one step. */
  rename(from: string, to: string): void;
  list(directory: string): string[];
  makeDirectory(path: string, mode: number): void;
  exists(path: string): boolean;
  /** Null when there is nothing. */
  entry(path: string): FileEntry | null;
}

export interface Net {
  connect(options: NetConnectOpts): Socket;
  /** A TCP socket that connect() has to follow at once. With no options for its constructor it costs a third less. */
  socket(): Socket;
  connectTls(options: ConnectionOptions): TLSSocket;
  /** A TCP socket around a descriptor that it owns from now on, not connected yet: connect() has to follow at once. */
  adopt(descriptor: number): Socket;
  createServer(options: ServerOpts, onConnection: (socket: Socket) => void): Server;
  createDatagram(options: DatagramOptions): DatagramSocket;
  /** Addresses of this host's interfaces, canonical text. */
  localAddresses(): string[];
}

export interface Exec {
  /** Runs to the end; never throws for an exit status. stdout and stderr are bounded to 1 MiB. */
  run(command: string, args: readonly string[], timeoutMs: number): Promise<{ status: number; stdout: string; stderr: string }>;
  /**
   * Runs to the end in a process group of its own, with these variables alone; the group is killed at the signal, and
   * when the command has ended. Never throws. Of either output the first 64 KiB are kept.
   */
  runGroup(
    command: string, args: readonly string[],
    options: { readonly variables: Readonly<Record<string, string>>; readonly signal: AbortSignal },
  ): Promise<{ status: number; stdout: string; stderr: string }>;
  /** Starts this program once more, as it was started: it has us for its `predecessor`. */
  startSuccessor(): SuccessorProcess;
}

/** A listening socket that another process may have as well: both accept from one queue, or read from one. */
export type SharedSocket = Server | DatagramSocket;

/** Another process of this program, which messages (JSON) and sockets can be sent to. */
export interface Peer {
  readonly pid: number;
  /** Resolves when it is on its way; rejects when the other one is gone. */
  send(message: object, socket?: SharedSocket): Promise<void>;
  /** To be called once. What has come before waits for it. */
  onMessage(listener: (message: unknown, socket: SharedSocket | null) => void): void;
  /** Nothing comes any more: the other one is gone, or one of us has closed. */
  readonly closed: Promise<void>;
  /** Safe to repeat. Until then the other one keeps this process alive. */
  close(): void;
}

export interface SuccessorProcess extends Peer {
  /** Its exit status, as a shell tells it; never rejects. */
  readonly ended: Promise<number>;
  signal(name: "SIGHUP" | "SIGINT" | "SIGKILL" | "SIGTERM" | "SIGUSR2"): void;
}

export interface Env {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly files: Files;
  readonly net: Net;
  readonly exec: Exec;
  /** The process that started us to take over from it, or null. */
  readonly predecessor: Peer | null;
  readonly pid: number;
  readonly uid: number;
  /** Environment variables. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** Absolute path of the checkout or package root: where build/ and schema/ are. */
  readonly root: string;
}
