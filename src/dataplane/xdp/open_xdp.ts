// Opens an XDP plane: on interfaces, pinned, following the network; or attached to nothing, for replay and
// tests. Knows what has to be there before the first step and takes it away again when something is not.

import type { Env } from "../../env.ts";
import { Failure } from "../../errors.ts";
import { parsePrefix } from "../../model/address.ts";
import type { Config } from "../../model/config.ts";
import type { OnStep } from "./apply.ts";
import { findInterfaces, type AttachMode } from "./attach.ts";
import { addressHolder } from "./bonds.ts";
import { objectPath, remedyForBuild } from "./built.ts";
import { needsRedirect, openCore, type Core, type CoreContext } from "./core.ts";
import type { Finding } from "./finding.ts";
import { addressFindings } from "./interfaces.ts";
import { mtuFindings } from "./mtu_rules.ts";
import type { Native } from "./native.ts";
import { failureFrom, withFailures } from "./native_failure.ts";
import type { Link } from "./netlink/rtnetlink.ts";
import { rewritesSums, UNRESOLVED } from "./image.ts";
import { configuredSource, type Target, type Way } from "./next_hops.ts";
import { genericDoubts, genericObstacle, mergingOffloads, nativeObstacle } from "./offload_rules.ts";
import { bpffsRoot, pinsOf } from "./pins.ts";
import { openSource, type ProgramSource } from "./program.ts";
import { askDevice, surveyOf, type Ingress, type Survey } from "./survey.ts";
import { openWatch, type Watch } from "./watch.ts";
import { tagFindings } from "./tag_rules.ts";
import { XdpPlane, type WaySource } from "./xdp_plane.ts";

export interface OpenXdpOptions {
  readonly config: Config;
  readonly env: Env;
  readonly native: Native;
  /** Called before each step; what it throws is a crash at that point. For tests. */
  readonly onStep?: OnStep;
}

/** The packet program as it was built. */
export function packetProgram(native: Native, env: Env): ProgramSource {
  const path = objectPath(env);
  const bytes = env.files.read(path);
  if (bytes === null) {
    throw new Failure("ADDON_UNAVAILABLE", { path }, `${path} is not built: ${remedyForBuild(env)}`);
  }
  return openSource(native, path, bytes, remedyForBuild(env));
}

/** Throws Failure; nothing is left behind then, and a plane that was live goes on as it was. */
export async function openXdpPlane(options: OpenXdpOptions): Promise<XdpPlane> {
  const { config, env, native } = options;
  if (config.dataplane.interfaces.length === 0) {
    throw new Failure("XDP_UNAVAILABLE", { interface: "" },
      "dataplane.interfaces is empty: name the interface that packets arrive on");
  }
  const source = packetProgram(native, env);
  // The watch is there before the plane whose next hops it moves; nothing calls it until then.
  let plane: XdpPlane | null = null;
  const watch: Watch = withFailures(() => openWatch(native, env, {
    tunnelSource: config.dataplane.tunnelSource,
    interfaces: config.dataplane.interfaces,
    fallbackIfindex: native.interfaceIndex(config.dataplane.interfaces[0] ?? ""),
    onChange: () => { plane?.refresh(); },
  }));
  try {
    const interfaces = (): readonly Link[] =>
      findInterfaces(config.dataplane.interfaces, watch.links());
    interfaces();
    const addressIfindex = (): number => {
      const first = watch.linkNamed(config.dataplane.interfaces[0] ?? "");
      return first === null ? 0 : addressHolder(first, watch.links()).ifindex;
    };
    mountBpffs(native, env);
    const pins = pinsOf(env, config.instance);
    const context: CoreContext = {
      native, env, config, source, pins, interfaces, requests: watch.requests, addressIfindex,
      obstacle: obstacleIn(native, config, watch),
    };
    const core = await openCore(context);
    const survey = surveyOf(config, watch, askDevice(native));
    const findings = [
      ...mtuFindings(config, survey), ...addressFindings(survey, config.dataplane.macs), ...doubtsOf(core, survey),
    ];
    for (const { name, found, remedy, level } of findings) {
      env.log.warn({ name, level, remedy }, found);
    }
    plane = new XdpPlane({ context, core, waySource: watch, onStep: options.onStep ?? null });
    return plane;
  } catch (error) {
    watch.close();
    throw failureFrom(error);
  }
}

/** Asked when a program is attached, on the network as it is then. */
function obstacleIn(native: Native, config: Config, watch: Watch): CoreContext["obstacle"] {
  return (link, to, features) => {
    const survey = surveyOf(config, watch, askDevice(native));
    const found = survey.ingress.find((each) => each.link.ifindex === link.ifindex);
    if (found === undefined) return null;
    if (to === "refused") return mergingOffloads(found);
    return to === "generic" ? genericObstacle(found, rewritesSums(features))
      : nativeObstacle(found, survey, needsRedirect(survey.ingress.map((each) => each.link)));
  };
}

function doubtsOf({ attachments, state }: Core, survey: Survey): Finding[] {
  const by = (wanted: AttachMode): Ingress[] => survey.ingress.filter(({ link }) =>
    attachments.some(({ mode, ifindex }) => mode === wanted && ifindex === link.ifindex));
  return [
    ...genericDoubts({ ingress: by("generic") }, rewritesSums(state.features)),
    ...tagFindings(by("native"), "native"), ...tagFindings(by("generic"), "generic"),
  ];
}

function mountBpffs(native: Native, env: Env): void {
  const root = bpffsRoot(env);
  withFailures(() => {
    if (!env.files.exists(root)) env.files.makeDirectory(root, 0o700);
    native.mountBpffs(root);
  });
}

export interface UnattachedOptions {
  readonly config: Config;
  readonly env: Env;
  readonly native: Native;
  /** The next hop of destinations without a static one; they leave by interface 1, which is always there. */
  readonly mac: string;
  /** The balancer's own link address, asked at each apply(). */
  readonly sourceMac: () => string;
}

/** A plane that is attached to nothing and pinned nowhere: apply() tables to it, testRun() packets through it. */
export async function openUnattachedPlane({ config, env, native, mac, sourceMac }: UnattachedOptions): Promise<XdpPlane> {
  const context: CoreContext = {
    native, env, config, source: packetProgram(native, env), pins: null, interfaces: () => [],
    requests: null, addressIfindex: () => 0, obstacle: () => null,
  };
  const core = await openCore(context);
  const way = (target: Target): Way => ({
    route: {
      nextHop: { ...UNRESOLVED, resolved: true, destinationMac: target.mac ?? mac, sourceMac: sourceMac(), ifindex: LOOPBACK },
      tunnelSource: configuredSource(target, config.dataplane.tunnelSource)
        ?? configuredSource({ ...target, forwarding: "ipip" }, NOWHERE),
    },
    text: "resolved: fixed", neighbour: null,
  });
  return new XdpPlane({ context, core, waySource: fixedWays(way), onStep: null });
}

const LOOPBACK = 1;
/** Outer sources where the config names none: addresses for documentation (RFC 5737, RFC 3849). */
const NOWHERE = { ipv4: parsePrefix("192.0.2.1/32"), ipv6: parsePrefix("2001:db8::1/128") };

function fixedWays(way: (target: Target) => Way): WaySource {
  let last: readonly Way[] = [];
  return {
    ways: (targets) => last = targets.map(way),
    current: () => last,
    look: (targets) => targets.map(way),
    linkNamed: () => null,
    links: () => [],
    close: () => undefined,
  };
}
