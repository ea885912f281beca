// Virtual addresses on this host, for a plane without netlink: `ip address` puts them where
// `vip.assign` says and takes away those that carry this instance's mark. Knows one command; must
// never touch an address without the mark.

import type { Env } from "../../env.ts";
import type { Address } from "../../model/address.ts";
import { addressMetric } from "../address_mark.ts";

/** An address and the device that is to have it. */
export interface AssignedAddress {
  readonly address: Address;
  readonly device: string;
}

interface Present {
  readonly text: string;
  readonly length: number;
  readonly device: string;
  readonly metric: number;
}

/** address → why it could not be put there. */
export type AssignProblems = ReadonlyMap<string, string>;

const TIMEOUT_MS = 5_000;

/** What the planes of one process want, lest the one that leaves takes what its successor needs. */
class Book {
  readonly wanted = new Map<object, readonly AssignedAddress[]>();
  /** One change after the other. */
  tail: Promise<unknown> = Promise.resolve();
}

const books = new WeakMap<Env["exec"], Map<string, Book>>();

function bookOf(env: Env, instance: string): Book {
  const ofEnv = books.get(env.exec) ?? new Map<string, Book>();
  books.set(env.exec, ofEnv);
  const book = ofEnv.get(instance) ?? new Book();
  ofEnv.set(instance, book);
  return book;
}

export class AssignedAddresses {
  readonly #env: Env;
  readonly #instance: string;
  readonly #book: Book;
  /** Null before the first run, which also finds what a killed process left. */
  #wanted: readonly AssignedAddress[] | null = null;
  #problems: AssignProblems = new Map();
  readonly #keepsOthers: () => boolean;
  /** Something that nobody here wants may have been kept. */
  #isOverdue = false;

  /** `keepsOthers`: nothing may be taken away yet, since another process has connections to it. */
  constructor(env: Env, instance: string, keepsOthers: () => boolean = () => false) {
    this.#env = env;
    this.#instance = instance;
    this.#keepsOthers = keepsOthers;
    this.#book = bookOf(env, instance);
  }

  /** What want() would change. */
  changes(wanted: readonly AssignedAddress[]): {
    readonly assigned: readonly AssignedAddress[]; readonly unassigned: readonly AssignedAddress[];
  } {
    const before = this.#wanted ?? [];
    return { assigned: without(wanted, before), unassigned: without(before, wanted) };
  }

  /** Brings this host to `wanted`, and tries again what went wrong before. Never rejects. */
  async want(wanted: readonly AssignedAddress[]): Promise<AssignProblems> {
    const { assigned, unassigned } = this.changes(wanted);
    const isSame = assigned.length === 0 && unassigned.length === 0 && this.#wanted !== null;
    if (isSame && this.#problems.size === 0) return this.#problems;
    this.#wanted = wanted;
    this.#book.wanted.set(this, wanted);
    return await this.#reconcile();
  }

  /**
   * Puts back what somebody took away: the XDP plane that was replaced, or a link that went. Takes away what had
   * to be kept, and need not be any more.
   */
  async restore(): Promise<void> {
    const local = new Set(this.#env.net.localAddresses());
    const isGone = ({ address: { text } }: AssignedAddress): boolean =>
      !local.has(text) && !this.#problems.has(text);
    const isDue = this.#isOverdue && !this.#keepsOthers();
    if (isDue || this.#wanted?.some(isGone) === true) await this.#reconcile();
  }

  /** Takes away what no other plane of this process wants. */
  async release(): Promise<void> {
    const had = this.#wanted ?? [];
    this.#wanted = [];
    this.#book.wanted.delete(this);
    if (had.length > 0 || this.#isOverdue) await this.#reconcile(false);
  }

  async #reconcile(keepsOthers = this.#keepsOthers()): Promise<AssignProblems> {
    this.#isOverdue = keepsOthers;
    const done = this.#book.tail.then(() => {
      const wanted = [...this.#book.wanted.values()].flat();
      return reconcile(this.#env, this.#instance, wanted, keepsOthers);
    });
    this.#book.tail = done;
    this.#problems = await done;
    return this.#problems;
  }
}

function without(
  some: readonly AssignedAddress[], others: readonly AssignedAddress[],
): readonly AssignedAddress[] {
  return some.filter(({ address, device }) => !others.some((other) => (
    other.address.text === address.text && other.device === device
  )));
}

/** True when a plane that was killed had left addresses. They are gone then. */
export async function removeAssignedAddresses(env: Env, instance: string): Promise<boolean> {
  const present = await list(env).catch(() => []); // without ip, nobody put any there
  const marked = present.filter(({ metric }) => metric === addressMetric(instance));
  for (const each of marked) await remove(env, each);
  return marked.length > 0;
}

async function reconcile(
  env: Env, instance: string, wanted: readonly AssignedAddress[], keepsOthers: boolean,
): Promise<AssignProblems> {
  const problems = new Map<string, string>();
  const metric = addressMetric(instance);
  let present: Present[];
  try {
    present = await list(env);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return new Map(wanted.map(({ address }) => [address.text, reason]));
  }
  for (const one of wanted) {
    if (present.some((each) => isThere(each, one))) continue;
    const reason = await add(env, one, metric);
    if (reason !== null) problems.set(one.address.text, reason);
  }
  if (keepsOthers) return problems;
  for (const each of present) {
    if (each.metric !== metric || wanted.some((one) => isThere(each, one))) continue;
    await remove(env, each);
  }
  return problems;
}

function isThere({ text, device }: Present, wanted: AssignedAddress): boolean {
  return text === wanted.address.text && device === wanted.device;
}

/** Throws an Error that says why nothing can be known. */
async function list(env: Env): Promise<Present[]> {
  const { status, stdout, stderr } = await env.exec.run("ip", ["-j", "address"], TIMEOUT_MS);
  if (status !== 0) throw new Error(`ip -j address: ${reasonIn(stderr)}`);
  return entriesOf(JSON.parse(stdout)).flatMap((device) => (
    entriesOf(device["addr_info"]).map((each): Present => ({
      text: String(each["local"]), length: Number(each["prefixlen"]),
      device: String(device["ifname"]), metric: Number(each["metric"] ?? 0),
    }))
  ));
}

/** The objects of a list; what is neither is left out, since ip is not ours. */
function entriesOf(value: unknown): Readonly<Record<string, unknown>>[] {
  if (!Array.isArray(value)) return [];
  return value.filter((each: unknown): each is Readonly<Record<string, unknown>> => (
    typeof each === "object" && each !== null
  ));
}

/**
 * As the XDP plane does: no route to a network around it, no detection of others that have it, and
 * in IPv6 never the address from which this host speaks of its own accord (RFC 6724). Null: done.
 */
async function add(
  env: Env, { address, device }: AssignedAddress, metric: number,
): Promise<string | null> {
  const place = [`${address.text}/${address.family === 4 ? 32 : 128}`, "dev", device];
  const never = ["nodad", "valid_lft", "forever", "preferred_lft", "0"];
  const { status, stderr } = await env.exec.run("ip", [
    "address", "add", ...place, "noprefixroute", "metric", String(metric),
    ...(address.family === 6 ? never : []),
  ], TIMEOUT_MS);
  if (status === 0) {
    env.log.info({ address: address.text, device }, "a virtual address was put on this host");
    return null;
  }
  return reasonIn(stderr);
}

async function remove(env: Env, { text, length, device }: Present): Promise<void> {
  const args = ["address", "delete", `${text}/${length}`, "dev", device];
  const { status, stderr } = await env.exec.run("ip", args, TIMEOUT_MS);
  const fields = { address: text, device };
  if (status === 0) env.log.info(fields, "a virtual address was taken off this host");
  else {
    env.log.warn({ ...fields, reason: reasonIn(stderr) },
      "a virtual address could not be taken off this host");
  }
}

function reasonIn(stderr: string): string {
  const text = stderr.replace(/^(Error: |RTNETLINK answers: )/, "").trim();
  if (/not permitted|permission/i.test(text)) {
    return "not permitted: run as root, or grant CAP_NET_ADMIN";
  }
  if (/ENOENT/.test(text)) return "there is no ip command: install iproute2 (Linux only)";
  return text === "" ? "ip failed without a word" : text;
}
