// What is to be known of the interfaces of a config: whether they are there, what XDP they have, and what of
// their MTU and offloads does not suit. Reads netlink, /proc and /sys; changes nothing.

import type { Env } from "../env.ts";
import type { Address } from "../model/address.ts";
import type { Config } from "../model/config.ts";
import { check, textIfReadable, type HostCheck } from "./host_check.ts";
import { adoptedMode, type AttachMode } from "./xdp/attach.ts";
import { isBond, portsOf } from "./xdp/bonds.ts";
import { configuredFeatures, needsRedirect } from "./xdp/core.ts";
import type { Finding } from "./xdp/finding.ts";
import { rewritesSums } from "./xdp/image.ts";
import { addressFindings } from "./xdp/interfaces.ts";
import { mtuFindings } from "./xdp/mtu_rules.ts";
import type { Native } from "./xdp/native.ts";
import { openRequests } from "./xdp/netlink/requests.ts";
import type { Link } from "./xdp/netlink/rtnetlink.ts";
import { xdpFeatures } from "./xdp/netlink/xdp_features.ts";
import { genericDoubts, genericObstacle, nativeObstacle, offloadFindings } from "./xdp/offload_rules.ts";
import { heldBy, holderOf, isAdoptable, type ProgramHolder } from "./xdp/program_holder.ts";
import { tagFindings } from "./xdp/tag_rules.ts";
import { askDevice, surveyOf, type Ingress, type Survey } from "./xdp/survey.ts";

/** The network as it is now; nothing is followed. */
export function surveyHost(native: Native, config: Config): { readonly links: readonly Link[]; readonly survey: Survey } {
  const requests = openRequests(native);
  try {
    const links = requests.links();
    const network = {
      links: () => links,
      link: (ifindex: number) => links.find((link) => link.ifindex === ifindex) ?? null,
      route: (address: Address) => requests.route(address),
    };
    return { links, survey: surveyOf(config, network, askDevice(native)) };
  } finally {
    requests.close();
  }
}

export function checksOfInterfaces(env: Env, native: Native, config: Config): HostCheck[] {
  const { links, survey } = surveyHost(native, config);
  const redirects = needsRedirect(survey.ingress.map(({ link }) => link));
  const rewrites = rewritesSums(configuredFeatures(config));
  const adopted = adoptedModes(env, native, config, survey);
  const findings = config.dataplane.mode === "proxy" ? []
    : [
      ...mtuFindings(config, survey), ...addressFindings(survey, config.dataplane.macs),
      ...offloadFindings(survey, { redirects, rewrites }),
      ...genericDoubts({ ingress: genericOf(config, survey, { redirects, adopted }) }, rewrites),
      ...tagsOf(config, survey, { redirects, adopted }),
    ];
  return [
    ...config.dataplane.interfaces.flatMap((name) => {
      const link = links.find((each) => each.name === name);
      return link !== undefined && isBond(link) ? bondChecks(env, native, link, links, config.instance)
        : interfaceChecks(env, native, name, link, config.instance);
    }),
    ...findings.map(({ name, found, remedy, level }) => check(name, false, found, remedy, level)),
    ...impossible(config, survey, { redirects, rewrites, adopted }),
  ];
}

/** The modes of programs that this instance left on interfaces and `run` goes on with, by the interface's number. */
type AdoptedModes = ReadonlyMap<number, AttachMode>;

function adoptedModes(env: Env, native: Native, { instance, dataplane: { xdp } }: Config, survey: Survey): AdoptedModes {
  return new Map(survey.ingress.flatMap(({ link }) => {
    const mode = adoptedMode(link, xdp);
    return mode !== null && isAdoptable(holderOf(native, env, instance, link), instance, link) ? [[link.ifindex, mode] as const] : [];
  }));
}

interface Expected {
  readonly redirects: boolean;
  readonly adopted: AdoptedModes;
}

/** Interfaces on which programs would run in generic mode. */
function genericOf({ dataplane: { xdp } }: Config, survey: Survey, { redirects, adopted }: Expected): Ingress[] {
  return survey.ingress.filter((each) => {
    const held = adopted.get(each.link.ifindex);
    if (held !== undefined) return held === "generic";
    return xdp === "generic"
      || (xdp === "auto" && (each.xdp?.native === false || nativeObstacle(each, survey, redirects) !== null));
  });
}

/** Interfaces on which no mode is left that the config allows, or on which what is attached goes on with something in its way. */
function impossible(
  { dataplane: { xdp } }: Config, survey: Survey, { redirects, rewrites, adopted }: Expected & { readonly rewrites: boolean },
): HostCheck[] {
  return survey.ingress.flatMap((each) => {
    const title = `XDP on ${each.link.name}`;
    const hindered = nativeObstacle(each, survey, redirects);
    const generic = genericObstacle(each, rewrites);
    const held = adopted.get(each.link.ifindex);
    if (held !== undefined) {
      const against = held === "generic" ? generic : hindered;
      return against === null ? [] : [check(title, false,
        `our own program, which will be adopted as it is (${held}), loses packets: ${against.found}`, against.remedy, "warning")];
    }
    const native = each.xdp?.native === false ? { found: "its driver has none", remedy: "dataplane.xdp: auto" } : hindered;
    const against = xdp === "native" ? [native] : xdp === "generic" ? [generic] : [native, generic];
    if (against.some((obstacle) => obstacle === null)) return [];
    const told = against.filter((obstacle) => obstacle !== null);
    return [check(title, false, told.map(({ found }) => found).join("; "), told.map(({ remedy }) => remedy).join("; "))];
  });
}

/** What about this host does not suit the config; none where an interface of it is not here: it is another host's. */
export function findingsHere(env: Env, native: Native, config: Config): Finding[] {
  if (config.dataplane.mode === "proxy" || config.dataplane.interfaces.length === 0) return [];
  const { survey } = surveyHost(native, config);
  if (survey.ingress.length < config.dataplane.interfaces.length) return [];
  const redirects = needsRedirect(survey.ingress.map(({ link }) => link));
  return [
    ...mtuFindings(config, survey), ...addressFindings(survey, config.dataplane.macs),
    ...tagsOf(config, survey, { redirects, adopted: adoptedModes(env, native, config, survey) }),
  ];
}

function tagsOf(config: Config, survey: Survey, expected: Expected): Finding[] {
  const generic = genericOf(config, survey, expected);
  return [
    ...tagFindings(survey.ingress.filter((each) => !generic.includes(each)), "native"), ...tagFindings(generic, "generic"),
  ];
}

/** A bond: whether it has ports, and what XDP they have. */
function bondChecks(env: Env, native: Native, link: Link, links: readonly Link[], instance: string): HostCheck[] {
  return [
    bondCheck(link, links),
    ...portsOf(link, links).flatMap((port) => interfaceChecks(env, native, port.name, port, instance)),
  ];
}

/** Which interfaces XDP goes to instead of this one. */
export function bondCheck(link: Link, links: readonly Link[]): HostCheck {
  const ports = portsOf(link, links).map(({ name, isBackup }) => `${name}${isBackup ? " (not in use now)" : ""}`);
  return check(`interface ${link.name}`, ports.length > 0,
    ports.length === 0 ? "a bond without ports" : `a bond: XDP is attached to its ports, ${ports.join(" and ")}`,
    `ip link set PORT master ${link.name}: XDP is attached to the ports of a bond, and this one has none`);
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
  if (link.xdp.programId !== 0) checks.push(programCheck(`${title} program`, link, holderOf(native, env, instance, link), instance));
  if (link.kind === "veth") {
    checks.push(check(`${title} offloads`, true,
      "veth: what senders do in other namespaces cannot be seen from here; they need \"ethtool -K IF tx off\", "
        + "for generic XDP \"tso off gso off\" too", null));
  }
  const rpFilter = ["all", name].map((each) =>
    Number(textIfReadable(env, `/proc/sys/net/ipv4/conf/${each}/rp_filter`) ?? "0"));
  const strict = Math.max(...rpFilter) === 1;
  checks.push(check(`${title} rp_filter`, !strict, strict ? "strict" : "off or loose",
    "replies of l2 backends that are routed through this host are dropped: set rp_filter to 2", "warning"));
  return checks;
}

/** The program that an interface has already. */
function programCheck(title: string, link: Link, holder: ProgramHolder | null, instance: string): HostCheck {
  const { name, xdp: { mode, programId } } = link;
  if (isAdoptable(holder, instance, link)) return check(title, true, `our own program (${mode}), which will be adopted`, null);
  const holds = holder === null ? null : heldBy(holder, instance, name);
  return check(title, false, holds === null ? `another XDP program (id ${programId})` : `${holds.found} (id ${programId})`,
    holds?.remedy ?? `ip link set ${name} xdp off, or detach its owner`);
}
