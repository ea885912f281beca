// What this host can do, as named checks with what was found and what would help: for `doctor`, and for
// whoever needs the addon. Reads /proc, /sys and netlink; must never change anything, attach nothing.

import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";
import type { Config, ServiceConfig } from "../model/config.ts";
import { refusedByXdp } from "../model/features.ts";
import { translates } from "../model/nat.ts";
import { withoutRegions } from "../model/regions.ts";
import { formatNetwork, singleAddress } from "../model/service_address.ts";
import { poolsOf } from "../model/split.ts";
import { effectiveCapabilities, missingCapabilities } from "./capabilities.ts";
import type { Capability } from "./capabilities.ts";
import { check, textIfReadable, type HostCheck } from "./host_check.ts";
import { checksOfInterfaces, findingsHere } from "./probe_interfaces.ts";
import { addonPath, objectPath, remedyForBuild } from "./xdp/built.ts";
import type { Finding } from "./xdp/finding.ts";
import { loadNative, type Native } from "./xdp/native.ts";
import { bpffsRoot } from "./xdp/pins.ts";

export interface HostReport {
  readonly checks: readonly HostCheck[];
  /** What `auto` would choose, and why. */
  readonly mode: "xdp" | "proxy";
  readonly reason: string;
}

/** Throws ADDON_UNAVAILABLE with what is missing. */
export function loadAddon(env: Env): Native {
  const path = addonPath(env);
  const loaded = tryAddon(env, path);
  if ("native" in loaded) return loaded.native;
  const { why, cause } = loaded;
  throw new Failure("ADDON_UNAVAILABLE", { path }, `${why}: ${remedyForBuild(env)}`, cause);
}

function tryAddon(
  env: Env, path: string,
): { readonly native: Native } | { readonly why: string; readonly cause: unknown } {
  if (!env.files.exists(path)) return { why: `the addon is not built (${path})`, cause: undefined };
  try {
    return { native: loadNative(path) };
  } catch (cause) {
    const said = cause instanceof Error ? cause.message.split("\n")[0] ?? "" : String(cause);
    return { why: `the addon does not load (${said})`, cause };
  }
}

/** Older ones lack what the program and its maps use, or were never tried. */
const KERNEL_MIN = [6, 1] as const;

function kernelCheck(env: Env): HostCheck {
  const release = textIfReadable(env, "/proc/sys/kernel/osrelease") ?? "unknown";
  const [major = 0, minor = 0] = release.split(".").map((part) => Number.parseInt(part, 10) || 0);
  const ok = major > KERNEL_MIN[0] || (major === KERNEL_MIN[0] && minor >= KERNEL_MIN[1]);
  return check("kernel", ok, release, `the XDP plane is made for Linux ${KERNEL_MIN.join(".")} and later`);
}

function capabilityCheck(env: Env): HostCheck {
  // CAP_SYS_ADMIN includes the two that were split off from it.
  const wanted: Capability[] = hasCapability(env, "CAP_SYS_ADMIN")
    ? ["CAP_NET_ADMIN"] : ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"];
  const missing = missingCapabilities(effectiveOf(env), wanted);
  const found = missing.length === 0 ? "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON" : `without ${missing.join(", ")}`;
  return check("capabilities", missing.length === 0, found, "run as root, or grant them (systemd: AmbientCapabilities)");
}

function effectiveOf(env: Env): bigint {
  return effectiveCapabilities(textIfReadable(env, "/proc/self/status") ?? "");
}

function hasCapability(env: Env, name: Capability): boolean {
  return missingCapabilities(effectiveOf(env), [name]).length === 0;
}

function bpffsCheck(env: Env): HostCheck {
  const root = bpffsRoot(env);
  const mounts = (textIfReadable(env, "/proc/self/mounts") ?? "").split("\n").map((line) => line.split(" "));
  const mounted = mounts.some(([, where, type]) => where === root && type === "bpf");
  // pointsman mounts it itself, so its absence stops nobody who may mount.
  return check("bpffs", true, mounted ? `mounted on ${root}` : `not mounted on ${root}: pointsman will mount it`, null);
}

function fileChecks(env: Env): HostCheck[] {
  const btf = env.files.exists("/sys/kernel/btf/vmlinux");
  const program = objectPath(env);
  return [
    check("BTF", true, btf ? "/sys/kernel/btf/vmlinux" : "none; the packet path does not need it", null),
    check("programs", env.files.exists(program),
      env.files.exists(program) ? program : `${program} is not built`, remedyForBuild(env)),
  ];
}

function addonCheck(env: Env): { readonly addon: HostCheck; readonly native: Native | null } {
  const loaded = tryAddon(env, addonPath(env));
  if (!("native" in loaded)) {
    return { native: null, addon: check("addon", false, loaded.why, remedyForBuild(env)) };
  }
  const { native } = loaded;
  return { native, addon: check("addon", true, `loaded, libbpf ${native.libbpfVersion}`, null) };
}

/** Whether the proxy could listen on the services' addresses. */
function fallbackCheck(env: Env, config: Config): HostCheck {
  const { bind } = config.dataplane.proxy;
  if (bind !== "vip") return check("fallback", true, `the proxy binds ${bind}`, null);
  const local = new Set(env.net.localAddresses());
  const nonlocal = (family: 4 | 6): boolean =>
    textIfReadable(env, `/proc/sys/net/ipv${family}/ip_nonlocal_bind`) === "1";
  const mayAssign = hasCapability(env, "CAP_NET_ADMIN");
  // A prefix is not the proxy's to bind in any case.
  const foreign = withoutRegions(config.services).filter(({ network, vip }) => singleAddress(network) !== null
    && (vip.assign === "none" || !mayAssign) && !local.has(formatNetwork(network)) && !nonlocal(network.address.family));
  const names = foreign.map(({ name, network }) => `${name} (${formatNetwork(network)})`).join(", ");
  return check("fallback", foreign.length === 0,
    foreign.length === 0 ? "the proxy can bind every virtual address" : `the proxy cannot bind ${names}`,
    "put the address on lo (vip.assign: loopback, which takes CAP_NET_ADMIN), set "
      + "ip_nonlocal_bind, or run with --proxy-bind", "warning");
}

function vipChecks(env: Env, config: Config): HostCheck[] {
  const local = new Set(env.net.localAddresses());
  const unheld = config.services.filter(({ network, vip }) => vip.assign === "none" && !local.has(formatNetwork(network)));
  if (unheld.length === 0) return [];
  const texts = [...new Set(unheld.map(({ network }) => formatNetwork(network)))].join(", ");
  // Not wrong: a router may send the address here.
  return [check("virtual addresses", true,
    `${texts}: not on this host, so nobody here answers ARP or ND for them; route them here, or set vip.assign`, null)];
}

/** The XDP plane passes packets for such a backend to this host's stack, which takes those for its addresses. */
function localBackendChecks(env: Env, { pools, services }: Config): HostCheck[] {
  const local = new Set(env.net.localAddresses());
  const here = new Map(pools.map(({ name, backends }) =>
    [name, backends.filter(({ address }) => local.has(address.text)).map((backend) => `${name}/${backend.name}`)]));
  const localTo = (service: ServiceConfig): string[] => poolsOf(service).flatMap((pool) => here.get(pool) ?? []);
  const served = services.filter((service) => localTo(service).length > 0);
  if (served.length === 0) return [];
  const unheld = served.filter(({ network, vip }) => vip.assign === "none" && !local.has(formatNetwork(network)));
  const who = [...new Set(served.flatMap(localTo))].join(", ");
  const what = [...new Set(unheld.map(({ network }) => formatNetwork(network)))].join(", ");
  return [check("local backends", unheld.length === 0,
    `${who}: on this host itself${unheld.length === 0 ? "" : `, which does not hold ${what}`}`,
    "its stack drops what it is not the address of: set vip.assign: loopback, or for a prefix "
      + "\"ip route add local PREFIX dev lo\"", "warning")];
}

/** A host that has the virtual address itself sends nothing for it out, not even through a tunnel. */
function probeChecks(env: Env, { pools, services }: Config): HostCheck[] {
  const through = new Set(pools.filter(({ health }) => health.type !== "none" && health.via === "tunnel")
    .map(({ name }) => name));
  const probed = services.filter((service) => poolsOf(service).some((pool) => through.has(pool)));
  if (probed.length === 0) return [];
  const local = new Set(env.net.localAddresses());
  const held = [...new Set(probed.map(({ network }) => formatNetwork(network)).filter((text) => local.has(text)))];
  const found = held.length === 0 ? "no virtual address that they are for is on this host"
    : `${held.join(", ")}: on this host, so probes via: tunnel say nothing of backends`;
  return [check("probes via: tunnel", held.length === 0, found,
    "take the address off and route it here, or probe via: direct", "warning")];
}

/** To end a translated connection that is silent, its ends have to be asked to speak (xdp/challenges.ts). */
function silentChecks(env: Env, { dataplane, services }: Config): HostCheck[] {
  const resets = services.some(({ forwarding, protocol }) => translates(forwarding) && protocol === "tcp");
  if (dataplane.mode === "proxy" || !resets || hasCapability(env, "CAP_NET_RAW")) return [];
  return [check("silent connections", false,
    "without CAP_NET_RAW, what is silent at a drain's deadline, or in maintenance, hears of it when it next sends",
    "grant CAP_NET_RAW", "warning")];
}

const NAMES_SHOWN_MAX = 5;

/** What in the config keeps XDP from being used, whatever the host: another family, an algorithm, no interface. */
export function refusedByConfig(config: Config): string[] {
  const byReason = new Map<string, string[]>();
  for (const { service, why } of refusedByXdp(config)) byReason.set(why, [...byReason.get(why) ?? [], service]);
  const refused = [...byReason].map(([why, names]) => {
    const others = names.length - NAMES_SHOWN_MAX;
    return `${names.slice(0, NAMES_SHOWN_MAX).join(", ")}${others > 0 ? ` and ${others} more` : ""}: ${why}`;
  });
  return config.dataplane.interfaces.length === 0 ? [...refused, "dataplane.interfaces is empty"] : refused;
}

/** The checks that keep XDP from being used. */
export function obstacles({ checks }: Pick<HostReport, "checks">): HostCheck[] {
  return checks.filter(({ level }) => level === "missing");
}

/** All checks, those of the config only when there is one. */
export function probeHost(config: Config | null, env: Env): HostReport {
  const { addon, native } = addonCheck(env);
  const host = [kernelCheck(env), capabilityCheck(env), bpffsCheck(env), ...fileChecks(env), addon];
  const interfaces = config === null || native === null ? [] : checksOfInterfaces(env, native, config);
  const rest = config === null ? [] : [
    ...vipChecks(env, config), ...localBackendChecks(env, config), ...probeChecks(env, config), ...silentChecks(env, config),
    fallbackCheck(env, config),
  ];
  const checks = [...host, ...interfaces, ...rest];
  return { checks, ...choice(config, obstacles({ checks })) };
}

/** What about this host does not suit the config, as far as it can be asked: what `check` adds to the file's problems. */
export function findingsOnHost(config: Config, env: Env): readonly Finding[] {
  const loaded = tryAddon(env, addonPath(env));
  return "native" in loaded ? findingsHere(env, loaded.native, config) : [];
}

function choice(
  config: Config | null, against: readonly HostCheck[],
): { mode: "xdp" | "proxy"; reason: string } {
  if (config?.dataplane.mode === "proxy") return { mode: "proxy", reason: "the config says mode: proxy" };
  const reasons = [
    ...(config === null ? [] : refusedByConfig(config)),
    ...against.map(({ name, found }) => `${name}: ${found}`),
  ];
  if (reasons.length === 0) return { mode: "xdp", reason: "everything that XDP needs is there" };
  return { mode: "proxy", reason: reasons.join("; ") };
}
