// Whether the answers of nat's backends come back through this host: for a moment it takes the address of a
// client that is nobody's, and connects from there. Only a backend whose way to that client leads here can
// be heard. Says what it found as checks; must never leave the address behind.

import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";
import { isLoopback, parseAddress, prefixOf, type Address } from "../model/address.ts";
import type { Config, PoolConfig, ServiceConfig } from "../model/config.ts";
import { formatNetwork, holdsAddress, singlePort } from "../model/service_address.ts";
import { usesPool } from "../model/split.ts";
import { effectiveCapabilities, missingCapabilities } from "./capabilities.ts";
import { check, textIfReadable, type HostCheck } from "./host_check.ts";
import { loadAddon } from "./probe.ts";
import { failureFrom } from "./xdp/native_failure.ts";
import { openRequests, type Requests } from "./xdp/netlink/requests.ts";
import type { InterfaceAddress } from "./xdp/netlink/rtnetlink.ts";
import { isStandIn, putStandIn, removeStandIns, type AddressRequests } from "./xdp/stand_in.ts";

/** Of networks that are for documentation and in nobody's use: TEST-NET-1 (RFC 5737), 2001:db8::/32 (RFC 3849). */
const STAND_INS = { 4: "192.0.2.254", 6: "2001:db8:ffff:ffff::fe" } as const;
/** A SYN, and two more where the first are lost (after 1 and 3 seconds, RFC 6298). */
const PATIENCE_MS = 4000;
const TARGETS_MAX = 64;
const AT_ONCE = 16;

export interface WayTarget {
  /** "pool/backend". */
  readonly name: string;
  readonly address: Address;
  /** Of TCP, also where the service is UDP: whoever refuses a connection answers, too. */
  readonly port: number;
}

type Routes = AddressRequests & Pick<Requests, "route">;
type Doors = Pick<Env, "clock" | "net">;

/** Each backend address of a nat service once, as long as the IP version stays. */
export function wayTargets({ pools, services }: Config): WayTarget[] {
  const found = new Map<string, WayTarget>();
  for (const service of services) {
    if (service.forwarding !== "nat") continue;
    for (const pool of pools.filter(({ name }) => usesPool(service, name))) {
      for (const { name, address, port } of pool.backends) {
        if (address.family !== service.network.address.family || found.has(address.text)) continue;
        found.set(address.text, { name: `${pool.name}/${name}`, address, port: port ?? portOf(service, pool) });
      }
    }
  }
  return [...found.values()];
}

/** One that the backend is asked at where the packet has its own. Port 0 cannot be connected to. */
function portOf({ ports }: ServiceConfig, { health }: PoolConfig): number {
  const probed = health.type === "none" ? null : health.port;
  return singlePort(ports) ?? probed ?? Math.max(1, ports.from);
}

/** What `doctor` says of it unasked. */
export function wayUntested(config: Config): HostCheck[] {
  const { length } = wayTargets(config);
  if (length === 0 || config.dataplane.mode === "proxy") return [];
  return [check("way back", true, `not tested whether the answers of ${length} nat backend(s) come back through this host;`
    + " --return-path does: it takes a client's address for a moment and connects from there", null)];
}

/** Texts to stand-ins, one for each family: the given ones, else ours. Throws REQUEST_INVALID. */
export function standIns(
  given: readonly string[], config: Config, present: readonly InterfaceAddress[],
): Readonly<Record<4 | 6, Address>> {
  const chosen: Record<4 | 6, Address> = { 4: parseAddress(STAND_INS[4])!, 6: parseAddress(STAND_INS[6])! };
  const seen = new Set<number>();
  for (const text of given) {
    const address = parseAddress(text);
    if (address === null) throw refusal(text, "is no IP address");
    if (seen.has(address.family)) throw refusal(text, `is a second one of IPv${address.family}`);
    seen.add(address.family);
    chosen[address.family] = address;
  }
  const tested = new Set(wayTargets(config).map(({ address }) => address.family));
  for (const family of [4, 6] as const) {
    const why = tested.has(family) || seen.has(family) ? whyNot(chosen[family], config, present) : null;
    if (why !== null) throw refusal(chosen[family].text, why);
  }
  return chosen;
}

function refusal(text: string, why: string): Failure {
  return new Failure("REQUEST_INVALID", { path: "return-path" },
    `${text} cannot stand in for a client: it ${why}; name an address like a client's that nobody has (--return-path ADDRESS)`);
}

/** Why an address cannot stand in for a client, or null. */
function whyNot(address: Address, config: Config, present: readonly InterfaceAddress[]): string | null {
  if (isLoopback(address) || isSpecial(address)) return "is no unicast address that routers forward";
  const service = config.services.find(({ network }) => holdsAddress(network, address.bytes));
  if (service !== undefined) return `is in ${formatNetwork(service.network)}, the virtual address of ${service.name}`;
  const pool = config.pools.find(({ backends }) => backends.some((each) => each.address.text === address.text));
  if (pool !== undefined) return `is the address of a backend of ${pool.name}`;
  if (config.dataplane.nat.sources.some(({ text }) => text === address.text)) return "is one of dataplane.nat.sources";
  const others = present.filter((each) => each.address.family === address.family && !isStandIn(each));
  if (others.some((each) => each.address.text === address.text)) return "is this host's own";
  // This host would answer for it on that link, and backends there would meet it without any way to clients.
  const near = others.find((each) => holdsAddress(prefixOf(each.address, each.length), address.bytes));
  return near === undefined ? null : `is on a link of this host (${prefixOf(near.address, near.length).text})`;
}

const SPECIAL = [
  ["0.0.0.0", 8], ["169.254.0.0", 16], ["224.0.0.0", 3], ["::", 128], ["fe80::", 10], ["ff00::", 8],
].map(([text, length]) => prefixOf(parseAddress(String(text))!, Number(length)));

function isSpecial(address: Address): boolean {
  return SPECIAL.some((each) => each.address.family === address.family && holdsAddress(each, address.bytes));
}

/** What one connection attempt met. A fault is this host's own. */
interface Answer {
  readonly kind: "accepted" | "refused" | "none" | "fault";
  /** Empty for an answer. */
  readonly why: string;
}

const FAULTS = ["EADDRNOTAVAIL", "EACCES", "EPERM", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"];
const NONE_CODES = ["ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN"];

function answerOf(code: string): Answer {
  if (code === "ECONNREFUSED" || code === "ECONNRESET") return { kind: "refused", why: "" };
  if (NONE_CODES.includes(code)) return { kind: "none", why: code };
  return { kind: "fault", why: FAULTS.includes(code) ? code : `unexpected ${code}` };
}

/** `from` null: this host's own address. */
function ask({ clock, net }: Doors, { address, port }: WayTarget, from: Address | null, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve) => {
    const local = from === null ? {} : { localAddress: from.text };
    const socket = net.connect({ host: address.text, port, family: address.family, ...local });
    const end = (answer: Answer): void => {
      cancel();
      signal.removeEventListener("abort", interrupt);
      // A FIN would be said over and over by an address that is gone; a reset ends it at once.
      if (answer.kind === "accepted") socket.resetAndDestroy();
      else socket.destroy();
      resolve(answer);
    };
    const interrupt = (): void => { end({ kind: "fault", why: "interrupted" }); };
    const cancel = clock.after(PATIENCE_MS, () => { end({ kind: "none", why: "no answer" }); }, true);
    socket.on("connect", () => { end({ kind: "accepted", why: "" }); });
    socket.on("error", (error: NodeJS.ErrnoException) => { end(answerOf(error.code ?? "UNKNOWN")); });
    signal.addEventListener("abort", interrupt, { once: true });
    if (signal.aborted) interrupt();
  });
}

/** Puts the stand-ins there, asks everybody from them, and takes them away whatever happens. */
export async function testWays(
  env: Doors, requests: Routes, config: Config, given: readonly string[], signal: AbortSignal,
): Promise<HostCheck[]> {
  const left = removeStandIns(requests);
  const present = requests.addresses();
  const chosen = standIns(given, config, present);
  const cleared = left.map(({ text }) => check("way back", true, `${text}, which a killed test had left on lo, was taken away`, null));
  const all = wayTargets(config);
  if (all.length === 0) return [...cleared, check("way back", true, "no service has forwarding: nat, so nothing to test", null)];
  const local = new Set(present.map(({ address }) => address.text));
  const targets = all.filter(({ address }) => !local.has(address.text));
  const tested = targets.slice(0, TARGETS_MAX);
  const ways = new Map(tested.map((each) => [each, wayTo(each, requests)]));
  try {
    for (const family of new Set(tested.map(({ address }) => address.family))) {
      if (!putStandIn(requests, chosen[family])) throw refusal(chosen[family].text, "is on lo already");
    }
    const checks: HostCheck[] = [];
    for (let at = 0; at < tested.length && !signal.aborted; at += AT_ONCE) {
      checks.push(...await Promise.all(tested.slice(at, at + AT_ONCE).map(async (target) => {
        const from = chosen[target.address.family];
        const [client, own] = await Promise.all([ask(env, target, from, signal), ask(env, target, null, signal)]);
        return judge(target, from, { client, own }, ways.get(target)!);
      })));
    }
    return [...cleared, ...checks, ...untestedOf(all.length - targets.length, targets.length - tested.length)];
  } finally {
    removeStandIns(requests);
  }
}

function untestedOf(here: number, more: number): HostCheck[] {
  const onHost = check("way back", true, `${here} backend address(es) on this host itself: not tested`, null);
  const beyond = check("way back", false, `${more} more backend address(es) were not tested: ${TARGETS_MAX} are at most`,
    "test a file with those pools alone", "warning");
  return [...here === 0 ? [] : [onHost], ...more === 0 ? [] : [beyond]];
}

const HERE = "come back through this host";
/** Its route to them leads to no gateway, whatever its way to other clients is. */
const BESIDE = "; clients of its own network get answers directly, unless it has a route to them by way of here";

function judge(
  { name, address, port }: WayTarget, from: Address, { client, own }: { readonly client: Answer; readonly own: Answer },
  { remedy, isNear }: WayTo,
): HostCheck {
  const what = `way back ${name}`;
  const who = `${address.text}, TCP port ${port}`;
  const ok = `${from.text} ${HERE}${isNear ? BESIDE : ""}`;
  switch (client.kind) {
    case "accepted": return check(what, true, `${who}: answers to ${ok}`, null);
    case "refused": return check(what, true, `${who}: refuses connections, and its answers to ${ok}`, null);
    case "fault": return check(what, false, `${who}: could not be tested: ${client.why}`, "try again", "warning");
    case "none":
  }
  if (own.kind === "accepted" || own.kind === "refused") {
    return check(what, false, `${who}: answers this host, but no answer to ${from.text} came back (${client.why}): its way to`
      + " that client leads elsewhere or nowhere, or packets from there are dropped", remedy, "error");
  }
  return check(what, false, `${who}: does not answer at all (${own.why}), so nothing is known of its way back`,
    "see to the backend, or let it answer or refuse TCP at this port, and test again", "warning");
}

interface WayTo {
  /** What to do where the backend's answers go elsewhere. */
  readonly remedy: string;
  /** On a link of this host's. */
  readonly isNear: boolean;
}

function wayTo({ name, address }: WayTarget, requests: Routes): WayTo {
  const route = requests.route(address);
  const ip = address.family === 4 ? "ip" : "ip -6";
  if (typeof route === "number" || route.source === null) {
    return { remedy: `lead what ${name} sends to clients back to this host`, isNear: false };
  }
  const { gateway, source } = route;
  if (gateway === null) {
    const remedy = `on ${name}: "${ip} route replace CLIENTS via ${source.text}", CLIENTS being their network, or default`;
    return { remedy, isNear: true };
  }
  const remedy = `${name} is behind ${gateway.text}: lead what it sends to clients back to ${source.text}, by a route on it`
    + " and on every router between";
  return { remedy, isNear: false };
}

/** Throws PERMISSION_DENIED, REQUEST_INVALID and ADDON_UNAVAILABLE; an abort ends it early, and the checks are fewer. */
export async function testReturnPath(
  env: Env, config: Config, given: readonly string[], signal: AbortSignal,
): Promise<HostCheck[]> {
  const capabilities = effectiveCapabilities(textIfReadable(env, "/proc/self/status") ?? "");
  if (missingCapabilities(capabilities, ["CAP_NET_ADMIN"]).length > 0) {
    throw new Failure("PERMISSION_DENIED", { operation: "put an address on lo", capability: "CAP_NET_ADMIN" },
      "--return-path takes a client's address for a moment, which needs CAP_NET_ADMIN: run as root, or grant it");
  }
  const native = loadAddon(env);
  let requests: Requests | null = null;
  try {
    requests = openRequests(native);
    return await testWays(env, requests, config, given, signal);
  } catch (error) {
    throw failureFrom(error);
  } finally {
    requests?.close();
  }
}
