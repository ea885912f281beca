// Processes of this program that follow one another: the one that was started by its predecessor, and the
// one that it starts. Knows Node's channel between parent and child, which carries sockets on every
// system; must never know what is said on it.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import type { EventEmitter } from "node:events";
import { constants } from "node:os";
import { basename } from "node:path";
import type { Peer, SharedSocket, SuccessorProcess } from "./env.ts";

/** As a shell reports a command that could not be run. */
const STATUS_NOT_RUN = 127;
const STATUS_SIGNAL = 128;

/** What `process` and a child have in common. It keeps this process alive until it is closed. */
interface Channel extends Pick<EventEmitter, "on" | "once"> {
  readonly connected: boolean;
  send?(message: object, socket: SharedSocket | undefined, options: object | undefined, sent: (error: Error | null) => void): boolean;
  disconnect?(): void;
}

/** The process that this one is to take over from, or null. Safe to repeat. */
export function findPredecessor(): Peer | null {
  if (process.env["POINTSMAN_SUCCESSOR"] !== undefined) {
    delete process.env["POINTSMAN_SUCCESSOR"]; // not for children of ours
    if (process.send !== undefined) predecessor = peerOn(process, process.ppid, null);
  }
  return predecessor;
}

let predecessor: Peer | null = null;

/**
 * The same node, script and arguments, found anew by their names, so that whatever was installed under
 * them in the meantime is what runs. In a session of its own: a terminal's Ctrl-C is for us to pass on.
 */
export function startSuccessor(): SuccessorProcess {
  const child = spawn(nodeCommand(), [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ["inherit", "inherit", "inherit", "ipc"], detached: true, env: { ...process.env, POINTSMAN_SUCCESSOR: "1" },
  });
  const ended = new Promise<number>((resolve) => {
    child.once("exit", (code, signal) => {
      resolve(code ?? STATUS_SIGNAL + (signal === null ? 0 : constants.signals[signal]));
    });
    child.on("error", () => { if (child.pid === undefined) resolve(STATUS_NOT_RUN); });
  });
  const peer = peerOn(child, child.pid ?? 0, ended);
  return {
    ...peer,
    close: () => {
      peer.close();
      child.unref();
    },
    ended,
    signal: (name) => { signalChild(child, name); },
  };
}

function signalChild(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.exitCode === null && child.signalCode === null) child.kill(name);
}

/** As it was called, if that has the name of node: `execPath` is where a link led when we started. */
function nodeCommand(): string {
  return /^node(js)?[\d.]*$/.test(basename(process.argv0)) ? process.argv0 : process.execPath;
}

/** `ended`: Node tells nothing of a channel that ends while the other process is to say that it has a socket. */
function peerOn(channel: Channel, pid: number, ended: Promise<unknown> | null): Peer {
  const early: (readonly [unknown, SharedSocket | null])[] = [];
  let hear = (message: unknown, socket: SharedSocket | null): void => { early.push([message, socket]); };
  channel.on("message", (message: unknown, socket: SharedSocket | undefined) => { hear(message, socket ?? null); });
  let isOurClosing = false;
  /** Nor does it of a message that waits for its turn then. */
  const underWay = new Set<(error: Error) => void>();
  const gone = (): Error => new Error(`process ${pid} is gone`);
  const closed = new Promise<void>((resolve) => {
    const onDisconnect = (): void => {
      for (const fail of underWay) fail(gone());
      if (isOurClosing) resolve();
      else untilGone(pid, resolve);
    };
    if (!channel.connected) onDisconnect();
    channel.once("disconnect", onDisconnect);
    void ended?.then(onDisconnect);
  });
  return {
    pid,
    send: (message, socket) => new Promise((resolve, reject) => {
      if (!channel.connected || channel.send === undefined) {
        reject(gone());
        return;
      }
      underWay.add(reject);
      channel.send(message, socket, undefined, (error) => {
        underWay.delete(reject);
        if (error === null) resolve();
        else reject(error);
      });
    }),
    onMessage: (listener) => {
      hear = listener;
      for (const [message, socket] of early.splice(0)) listener(message, socket);
    },
    closed,
    close: () => {
      isOurClosing = true;
      if (channel.connected) channel.disconnect?.();
    },
  };
}

const GONE_POLL_MS = 2;
const GONE_PATIENCE_MS = 5000;

/**
 * The channel of a process that is being killed may end before its other sockets are closed. Whoever we are
 * the child of then is gone when we have another parent; a child of ours has events of its own.
 */
function untilGone(pid: number, resolve: () => void, waitedMs = 0): void {
  if (process.ppid !== pid || waitedMs >= GONE_PATIENCE_MS) resolve();
  else setTimeout(() => { untilGone(pid, resolve, waitedMs + GONE_POLL_MS); }, GONE_POLL_MS);
}
