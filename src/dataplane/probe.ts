// What this host can do, as named checks with what was found and what would help: for `doctor`, and for
// whoever needs the addon. Reads /proc, /sys and netlink; must never change anything, attach nothing.

import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";
import type { Config } from "../model/config.ts";
import { supportOf } from "../model/features.ts";
import { formatNetwork, singleAddress } from "../model/service_address.ts";
import { effectiveCapabilities, missingCapabilities } from "./capabilities.ts";
import type { Capability } from "./capabilities.ts";
import { addonPath, objectPath, remedyForBuild } from "./xdp/built.ts";
import { loadNative, type Native } from "./xdp/native.ts";
import { openRequests } from "./xdp/netlink/requests.ts";
import type { Link } from "./xdp/netlink/rtnetlink.ts";
import { xdpFeatures } from "./xdp/netlink/xdp_features.ts";
import { bpffsRoot, pinsOf } from "./xdp/pins.ts";

export interface HostCheck {
  readonly name: string;
  readonly ok: boolean;
  /** What was found, in words. */
  readonly found: string;
  /** What would help; null when nothing has to be done. */
  readonly remedy: string | null;
}

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

function check(name: string, ok: boolean, found: string, remedy: string | null): HostCheck {
  return { name, ok, found, remedy: ok ? null : remedy };
}

function text(env: Env, path: string): string | null {
  const bytes = env.files.read(path);
  return bytes === null ? null : Buffer.from(bytes).toString("utf8").trim();
}

/** The same as text(), null too where reading is refused. */
function textIfReadable(env: Env, path: string): string | null {
  try {
    return text(env, path);
  } catch {
    return null;
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

/** One interface: there, and what XDP it has. */
function interfaceChecks(env: Env, native: Native, name: string, link: Link | undefined, instance: string): HostCheck[] {
  const title = `interface ${name}`;
  if (link === undefined) return [check(title, false, "is not there", "correct dataplane.interfaces")];
  const driver = /^DRIVER=(.+)$/m.exec(textIfReadable(env, `/sys/class/net/${name}/device/uevent`) ?? "")?.[1];
  const what = `${link.kind ?? driver ?? "unknown driver"}, MTU ${link.mtu}, ${link.mac ?? "no link address"}`;
  const features = xdpFeatures(native, link.ifindex);
  const xdp = features === null ? "native XDP: known only when attached"
    : features.native ? "native XDP" : "generic XDP only";
  const checks = [
    check(title, link.up && link.mac !== null, `${what}, ${link.up ? "up" : "down"}, ${xdp}`,
      link.up ? "XDP needs an interface with a link address" : `ip link set ${name} up`),
  ];
  if (link.xdp.programId !== 0) {
    const ours = pinnedLinks(env, instance).includes(name);
    checks.push(check(`${title} program`, ours,
      ours ? `our own program (${link.xdp.mode}), which will be adopted` : `another XDP program (id ${link.xdp.programId})`,
      `ip link set ${name} xdp off, or detach its owner`));
  }
  if (link.kind === "veth") {
    checks.push(check(`${title} offloads`, true,
      "veth: senders need \"ethtool -K IF tx off\", peers of redirects \"ethtool -K IF gro on\"", null));
  }
  const rpFilter = ["all", name].map((each) =>
    Number(textIfReadable(env, `/proc/sys/net/ipv4/conf/${each}/rp_filter`) ?? "0"));
  const strict = Math.max(...rpFilter) === 1;
  checks.push(check(`${title} rp_filter`, !strict, strict ? "strict" : "off or loose",
    "replies of l2 backends that are routed through this host are dropped: set rp_filter to 2"));
  return checks;
}

/** None where bpffs may not be read. */
function pinnedLinks(env: Env, instance: string): string[] {
  try {
    return pinsOf(env, instance).links();
  } catch {
    return [];
  }
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
  const foreign = config.services.filter(({ network, vip }) => singleAddress(network) !== null
    && (vip.assign === "none" || !mayAssign) && !local.has(formatNetwork(network)) && !nonlocal(network.address.family));
  const names = foreign.map(({ name, network }) => `${name} (${formatNetwork(network)})`).join(", ");
  return check("fallback", foreign.length === 0,
    foreign.length === 0 ? "the proxy can bind every virtual address" : `the proxy cannot bind ${names}`,
    "put the address on lo (vip.assign: loopback, which takes CAP_NET_ADMIN), set "
      + "ip_nonlocal_bind, or run with --proxy-bind");
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
  const served = services.filter(({ pool }) => (here.get(pool)?.length ?? 0) > 0);
  if (served.length === 0) return [];
  const unheld = served.filter(({ network, vip }) => vip.assign === "none" && !local.has(formatNetwork(network)));
  const who = [...new Set(served.flatMap(({ pool }) => here.get(pool) ?? []))].join(", ");
  const what = [...new Set(unheld.map(({ network }) => formatNetwork(network)))].join(", ");
  return [check("local backends", unheld.length === 0,
    `${who}: on this host itself${unheld.length === 0 ? "" : `, which does not hold ${what}`}`,
    "its stack drops what it is not the address of: set vip.assign: loopback, or for a prefix "
      + "\"ip route add local PREFIX dev lo\"")];
}

const NAMES_SHOWN_MAX = 5;

/** What in the config keeps XDP from being used, whatever the host: ways of forwarding, no interface. */
export function refusedByConfig(config: Config): string[] {
  const refused = [...new Set(config.services.map((each) => each.forwarding))].flatMap((forwarding) => {
    const support = supportOf("services[].forwarding", "xdp", forwarding);
    if (typeof support === "string" || !("refused" in support)) return [];
    const names = config.services.filter((each) => each.forwarding === forwarding).map(({ name }) => name);
    const shown = names.slice(0, NAMES_SHOWN_MAX).join(", ");
    const others = names.length - NAMES_SHOWN_MAX;
    const who = `${shown}${others > 0 ? ` and ${others} more` : ""}`;
    return [`forwarding ${forwarding} (${who}) is refused by XDP: ${support.refused}`];
  });
  return config.dataplane.interfaces.length === 0 ? [...refused, "dataplane.interfaces is empty"] : refused;
}

/** The checks that keep XDP from being used. A strict rp_filter hurts some replies, not the forwarding. */
export function obstacles({ checks }: Pick<HostReport, "checks">): HostCheck[] {
  const beside = ["virtual addresses", "fallback", "local backends"];
  return checks.filter(({ name, ok }) => !ok && !beside.includes(name) && !name.endsWith("rp_filter"));
}

/** All checks, those of the config only when there is one. */
export function probeHost(config: Config | null, env: Env): HostReport {
  const { addon, native } = addonCheck(env);
  const host = [kernelCheck(env), capabilityCheck(env), bpffsCheck(env), ...fileChecks(env), addon];
  const interfaces = config === null || native === null ? [] : checksOfInterfaces(env, native, config);
  const rest = config === null ? [] : [...vipChecks(env, config), ...localBackendChecks(env, config), fallbackCheck(env, config)];
  const checks = [...host, ...interfaces, ...rest];
  return { checks, ...choice(config, obstacles({ checks })) };
}

function checksOfInterfaces(env: Env, native: Native, config: Config): HostCheck[] {
  const requests = openRequests(native);
  try {
    const links = requests.links();
    return config.dataplane.interfaces.flatMap((name) =>
      interfaceChecks(env, native, name, links.find((link) => link.name === name), config.instance));
  } finally {
    requests.close();
  }
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
