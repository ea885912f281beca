// Chooses the data plane: XDP where it can be had, else the proxy, and says why. Knows both planes and what
// each refusal means to an operator; must never fall back without a word.

import { Failure, isFailure } from "../errors.ts";
import type { Env } from "../env.ts";
import type { Config } from "../model/config.ts";
import type { Dataplane, PlaneChoice } from "./dataplane.ts";
import { loadAddon, obstacles, probeHost, refusedByConfig } from "./probe.ts";
import { openProxyPlane } from "./proxy/proxy_plane.ts";
import type { OnStep } from "./xdp/apply.ts";
import { remedyForBuild } from "./xdp/built.ts";
import { openXdpPlane } from "./xdp/open_xdp.ts";
import type { XdpPlane } from "./xdp/xdp_plane.ts";

export interface OpenDataplaneOptions {
  /** Called before each step of an XDP plane; for tests of crashes. */
  readonly onStep?: OnStep;
}

export interface OpenedDataplane {
  readonly plane: Dataplane;
  readonly choice: PlaneChoice;
}

/** Throws Failure: in mode xdp what XDP refused, else what the proxy refused. */
export async function openDataplane(
  config: Config, env: Env, options: OpenDataplaneOptions = {},
): Promise<OpenedDataplane> {
  const { mode } = config.dataplane;
  if (mode === "proxy") {
    const plane = await openProxyPlane({ config, env });
    const attempts = [{ what: "proxy", result: "open" }];
    return { plane, choice: { mode: "proxy", reason: "the config says mode: proxy", remedy: null, attempts } };
  }
  try {
    const plane = await openXdp(config, env, options);
    return { plane, choice: chosenXdp(plane) };
  } catch (error) {
    if (mode === "xdp" || !(error instanceof Failure)) throw error;
    return await fallBack(config, env, error as Failure);
  }
}

async function openXdp(config: Config, env: Env, options: OpenDataplaneOptions): Promise<XdpPlane> {
  const refused = refusedByConfig(config);
  if (refused.length > 0) throw new Failure("XDP_UNAVAILABLE", { interface: "" }, refused.join("; "));
  return await openXdpPlane({ config, env, native: loadAddon(env), ...options });
}

function chosenXdp(plane: XdpPlane): PlaneChoice {
  const attached = plane.attachments();
  const attempts = attached.map(({ name, mode, adopted, note }) => ({
    what: `XDP on ${name}`,
    result: `${adopted ? "adopted, " : ""}${mode}${note === null ? "" : `: ${note}`}`,
  }));
  const generic = attached.filter(({ mode }) => mode === "generic");
  const where = attached.map(({ name, mode }) => `${name} (${mode})`).join(", ");
  // A native one has none, unless it was adopted with something in its way.
  const notes = [...new Set(attached.map(({ note }) => note).filter((note) => note !== null))];
  const remedies = [...new Set(attached.map(({ remedy }) => remedy).filter((remedy) => remedy !== null))];
  return {
    mode: "xdp",
    reason: `XDP is attached to ${where}${notes.length === 0 ? "" : `; ${notes.join("; ")}`}`,
    remedy: remedies.length > 0 ? remedies.join("; ") : generic.length === 0 ? null
      : "an interface whose driver has native XDP is several times faster",
    attempts,
  };
}

async function fallBack(config: Config, env: Env, failure: Failure): Promise<OpenedDataplane> {
  const unseen = wasTried(failure) ? [] : obstacles(probeHost(config, env))
    .filter(({ found }) => !failure.message.includes(found));
  const why = [failure.message, ...unseen.map(({ name, found }) => `${name}: ${found}`)].join("; ");
  const remedies = [remedyFor(failure, env), ...unseen.map((each) => each.remedy)];
  const remedy = [...new Set(remedies.filter((each) => each !== null))].join("; ");
  const reason = `XDP cannot be used: ${why}`;
  env.log.warn({ code: failure.code, remedy }, `falling back to the proxy plane: ${why}`);
  const plane = await openProxyPlane({ config, env });
  const attempts = [
    { what: "XDP", result: `${failure.code}: ${failure.message}` },
    { what: "proxy", result: "open" },
  ];
  return { plane, choice: { mode: "proxy", reason, remedy, attempts } };
}

/** False when it failed before the host was asked: what the host would have said is then still to be found. */
function wasTried(failure: Failure): boolean {
  if (isFailure(failure, "XDP_UNAVAILABLE")) return failure.details.interface !== "";
  return failure.code !== "ADDON_UNAVAILABLE";
}

/** What an operator does to get XDP after all. */
function remedyFor(failure: Failure, env: Env): string {
  switch (failure.code) {
    case "ADDON_UNAVAILABLE": return remedyForBuild(env);
    case "PERMISSION_DENIED": return "run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON";
    case "DEVICE_MISSING": return "correct dataplane.interfaces: it names the interfaces that packets arrive on";
    case "ABI_MISMATCH": return "run the version that made the plane, or \"pointsman detach\" and start again";
    case "PLANE_IN_USE": return "take the other XDP program off the interface";
    case "VERIFIER_REJECTED": return "use a newer kernel (6.1 or later), and report the verifier's log";
    case "XDP_UNAVAILABLE": return "name an interface and a forwarding that XDP can use (pointsman doctor lists them)";
    default: return "see the log; pointsman doctor says what this host can do";
  }
}
