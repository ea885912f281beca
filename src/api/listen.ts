// Opens the control socket: path length, leftovers of a dead owner, mode and group. Knows Unix sockets;
// must never know what is spoken on them. Call it with the instance's lock in hand.

import type { Server } from "node:http";
import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";

export interface SocketOptions {
  readonly path: string;
  readonly instance: string;
  /** Group that may use it besides its owner, or null. */
  readonly group: string | null;
}

/** Everybody but owner and group is kept out from the first moment on: mode 0660. */
const UMASK = 0o117;
const CHGRP_TIMEOUT_MS = 10_000;

export async function listenOnSocket(server: Server, options: SocketOptions, env: Env): Promise<void> {
  const { path, group } = options;
  env.files.makeDirectory(path.slice(0, Math.max(1, path.lastIndexOf("/"))), 0o755);
  await removeLeftover(options, env);
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error): void => {
      reject(new Failure("SYSTEM", { operation: `listen on ${path}` },
        `the control socket ${path} cannot be opened: ${error.message}`, error));
    };
    server.once("error", fail);
    const before = process.umask(UMASK);
    try {
      // Bound within this call, so no other file is created under this mask.
      server.listen({ path }, () => {
        server.off("error", fail);
        resolve();
      });
    } finally {
      process.umask(before);
    }
  });
  if (group !== null) await giveToGroup(path, group, env);
}

/** Removes a socket that nobody listens on. With the lock in hand nobody can be about to. */
async function removeLeftover({ path, instance }: SocketOptions, env: Env): Promise<void> {
  const outcome = await knock(path, env);
  if (outcome === "ENOENT") return;
  if (outcome === "ECONNREFUSED" && isSocket(path, env)) {
    env.files.remove(path);
    return;
  }
  if (outcome === null) {
    throw new Failure("INSTANCE_RUNNING", { instance, pid: 0 },
      `somebody listens on ${path} without the lock of instance ${instance}:`
      + " end that process, or set control.socket to another path");
  }
  throw new Failure("SYSTEM", { operation: `connect to ${path}` },
    `${path} is in the way of the control socket (${outcome}): remove it, or set control.socket`);
}

/** Plain files and directories refuse connections as well, and are not ours to remove. */
function isSocket(path: string, env: Env): boolean {
  try {
    env.files.read(path);
    return false;
  } catch (error) {
    // What open(2) says of a socket: ENXIO on Linux, EOPNOTSUPP elsewhere.
    const code = error instanceof Error && "code" in error ? error.code : null;
    return code === "ENXIO" || code === "EOPNOTSUPP" || code === "ENOTSUP";
  }
}

/** Null when somebody answers, else the error's code. */
function knock(path: string, env: Env): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = env.net.connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(null);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      socket.destroy();
      resolve(error.code ?? error.message);
    });
  });
}

async function giveToGroup(path: string, group: string, env: Env): Promise<void> {
  // chgrp knows the groups of every name service; Node knows numbers only.
  const { status, stderr } = await env.exec.run("chgrp", ["--", group, path], CHGRP_TIMEOUT_MS);
  if (status === 0) return;
  throw new Failure("PERMISSION_DENIED", { operation: `chgrp ${group} ${path}`, capability: "CAP_CHOWN" },
    `the control socket cannot be given to group ${group}: ${stderr.trim()}`
    + " (does the group exist, and are you in it or root?)");
}
