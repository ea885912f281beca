// Network namespaces for the lab and the kernel tests: create, enter, delete, and the reaper that
// cleans up when their owner dies. Knows ip(8), nsenter(1) and /proc; knows no topology, service or
// test. Everything it makes is called pm-PID-STARTTIME-…, so a leftover is known by its dead owner.

import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess, SpawnOptions } from "node:child_process";
import { existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { searchPath } from "./search_path.ts";

const NAMESPACES = "/run/netns";
const BPFFS = "/sys/fs/bpf";
/** Pins of tests, and of instances that tests named after themselves. */
const PIN_DIRECTORIES = [BPFFS, `${BPFFS}/pointsman`];
const OWNED = /^pm-(\d+)-(\d+)-/;

export interface RunOptions {
  /** Written to standard input, which is closed after it. */
  readonly input?: string | Uint8Array;
  /** Killed after this long; 60 s unless told. */
  readonly timeoutMs?: number;
  /** A status other than 0 throws, unless this is false. */
  readonly check?: boolean;
  readonly variables?: Readonly<Record<string, string | undefined>>;
}

export interface RunResult {
  /** Exit status; 128 + n for a process that signal n ended, as in a shell. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Field 22 of /proc/PID/stat: with the pid it names a process for as long as the machine is up. */
export function processStartTime(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command name may hold spaces and brackets: count from the last bracket.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}

/** `pm-PID-STARTTIME-`, the beginning of every name of this process. */
export function ownPrefix(): string {
  return `pm-${process.pid}-${processStartTime(process.pid) ?? "0"}-`;
}

/** The full name of this process's namespace, pin or instance of this label. */
export function ownName(label: string): string {
  return ownPrefix() + label;
}

/** Where this process may pin things; the directory is not created. */
export function ownPinDirectory(label: string): string {
  return `${BPFFS}/${ownName(label)}`;
}

/** True when `name` follows the pattern and the process it names is gone. */
export function isLeftover(name: string): boolean {
  const match = OWNED.exec(name);
  return match !== null && processStartTime(Number(match[1])) !== match[2];
}

/** Creates `pm-PID-STARTTIME-LABEL` with its loopback up, and returns that name. */
export function createNamespace(label: string): string {
  const name = ownName(label);
  runSync("ip", ["netns", "add", name]);
  runSync("ip", ["-n", name, "link", "set", "lo", "up"]);
  return name;
}

/** Ends the processes in a namespace (never this one) and deletes it; harmless when it is gone. */
export function deleteNamespace(name: string): void {
  if (!existsSync(`${NAMESPACES}/${name}`)) return;
  for (const pid of processesIn(name)) {
    try { process.kill(pid, "SIGKILL"); } catch { /* gone by itself */ }
  }
  runSync("ip", ["netns", "delete", name], { check: false });
}

/** The processes in a namespace, without this one. */
export function processesIn(name: string): number[] {
  const found = runSync("ip", ["netns", "pids", name], { check: false });
  return found.stdout.split("\n").map(Number).filter((pid) => pid > 0 && pid !== process.pid);
}

/**
 * Deletes what dead owners left: namespaces with their processes, and pins. Returns their names.
 */
export function sweepLeftovers(): string[] {
  const swept: string[] = [];
  for (const name of listed(NAMESPACES).filter(isLeftover)) {
    deleteNamespace(name);
    swept.push(name);
  }
  for (const directory of PIN_DIRECTORIES) {
    for (const name of listed(directory).filter(isLeftover)) {
      rmSync(`${directory}/${name}`, { recursive: true, force: true });
      swept.push(`${directory}/${name}`);
    }
  }
  return swept;
}

/** Deletes everything that this process created here. */
export function deleteOwn(): void {
  const prefix = ownPrefix();
  for (const name of listed(NAMESPACES)) if (name.startsWith(prefix)) deleteNamespace(name);
  for (const directory of PIN_DIRECTORIES) {
    for (const name of listed(directory)) {
      if (name.startsWith(prefix)) rmSync(`${directory}/${name}`, { recursive: true, force: true });
    }
  }
}

function listed(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

/**
 * The command line that runs a command in a namespace, or as it is for null. Not `ip netns exec`:
 * that mounts a new /sys, which hides bpffs. nsenter execs, so the pid is the command's own.
 */
export function commandIn(
  namespace: string | null,
  command: string,
  args: readonly string[],
): [string, string[]] {
  if (namespace === null) return [command, [...args]];
  return ["nsenter", [`--net=${NAMESPACES}/${namespace}`, "--", command, ...args]];
}

/** This process's variables and these, with a PATH on which root's programs are found. */
function environment(variables: Readonly<Record<string, string | undefined>> = {}): NodeJS.ProcessEnv {
  const all = { ...process.env, ...variables };
  return { ...all, PATH: searchPath(all["PATH"]) };
}

/** Starts a process in a namespace. Its pid is the command's. */
export function spawnIn(
  namespace: string | null, command: string, args: readonly string[], options: SpawnOptions = {},
): ChildProcess {
  const [file, argv] = commandIn(namespace, command, args);
  return spawn(file, argv, {
    stdio: ["ignore", "pipe", "pipe"], ...options, env: environment(options.env),
  });
}

/** Runs a command in a namespace to its end, while this process goes on serving. */
export async function runIn(
  namespace: string | null, command: string, args: readonly string[], options: RunOptions = {},
): Promise<RunResult> {
  const [file, argv] = commandIn(namespace, command, args);
  const child = spawn(file, argv, {
    stdio: ["pipe", "pipe", "pipe"], env: environment(options.variables),
    timeout: options.timeoutMs ?? 60_000, killSignal: "SIGKILL",
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  // The command may end without reading its input; its status says more than EPIPE.
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>(
    (resolve, reject) => {
      child.once("error", reject);
      child.once("close", (...ending) => {
        resolve(ending);
      });
    },
  );
  return checked([command, ...args], options, {
    status: code ?? 128 + signalNumber(signal),
    stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString(),
  });
}

/** The blocking form, for setting things up. This process serves nothing meanwhile. */
export function runInSync(
  namespace: string | null, command: string, args: readonly string[], options: RunOptions = {},
): RunResult {
  const [file, argv] = commandIn(namespace, command, args);
  const ended = spawnSync(file, argv, {
    input: options.input ?? "", encoding: "utf8", env: environment(options.variables),
    timeout: options.timeoutMs ?? 60_000, killSignal: "SIGKILL", maxBuffer: 64 << 20,
  });
  if (ended.error !== undefined && ended.status === null && ended.signal === null)
    throw ended.error;
  return checked([command, ...args], options, {
    status: ended.status ?? 128 + signalNumber(ended.signal),
    stdout: ended.stdout,
    stderr: ended.stderr,
  });
}

function runSync(command: string, args: readonly string[], options: RunOptions = {}): RunResult {
  return runInSync(null, command, args, options);
}

function checked(command: readonly string[], options: RunOptions, result: RunResult): RunResult {
  if (result.status === 0 || options.check === false) return result;
  const said = (result.stderr.trim() || result.stdout.trim()).slice(-2000);
  throw new Error(`"${command.join(" ")}" ended with status ${result.status}: ${said}`);
}

function signalNumber(signal: NodeJS.Signals | null): number {
  return signal === "SIGKILL" ? 9 : signal === "SIGTERM" ? 15 : signal === "SIGINT" ? 2 : 0;
}

/** Mounts bpffs where libbpf and bpftool look for it, when it is not there yet. */
export function mountBpffs(): void {
  const mounts = readFileSync("/proc/self/mounts", "utf8");
  if (
    mounts.split("\n").some((line) => line.split(" ")[1] === BPFFS && line.split(" ")[2] === "bpf")
  )
    return;
  runSync("mount", ["-t", "bpf", "bpf", BPFFS]);
}

export interface Reaper {
  readonly pid: number;
  /** Ends the reaper; what is there stays. */
  release(): void;
}

/**
 * Starts the reaper: a shell in a session of its own that holds the other end of a pipe. The kernel
 * closes the pipe when this process ends, however it ends; the shell then deletes what bears its
 * name.
 */
export function startReaper(): Reaper {
  const child = spawn("sh", ["-c", REAPER, "pointsman-reaper", ownPrefix()], {
    stdio: ["pipe", "ignore", "ignore"], detached: true, env: environment(),
  });
  child.stdin.on("error", () => undefined);
  child.unref();
  // A pipe that counts as open would keep the event loop alive.
  if (child.stdin instanceof Socket) child.stdin.unref();
  return {
    pid: child.pid ?? -1,
    release() {
      // The word tells it apart from an end that nobody announced.
      child.stdin.end("release\n");
    },
  };
}

const REAPER = `
trap '' INT TERM HUP
read -r word && [ "$word" = release ] && exit 0
for path in ${NAMESPACES}/"$1"*; do
  [ -e "$path" ] || continue
  name=\${path##*/}
  for pid in $(ip netns pids "$name"); do kill -9 "$pid"; done
  ip netns delete "$name"
done
rm -rf ${PIN_DIRECTORIES.map((directory) => `${directory}/"$1"*`).join(" ")}
`;
