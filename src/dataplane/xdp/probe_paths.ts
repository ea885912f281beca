// Sockets for health probes that travel as clients' packets do: marked, so that the kernel sends them to
// the far end of the road, where bpf/probe.bpf.c gives them the headers and the next hop of their backend.
// Answers come back as to any client, from the virtual address. Knows road, program and paths; must never
// know what a probe asks or what becomes of its outcome.

import type { Socket } from "node:net";
import type { Env } from "../../env.ts";
import { isLinkLocal, type Address } from "../../model/address.ts";
import type { Config } from "../../model/config.ts";
import type { Destination, ForwardingTable } from "../../model/table.ts";
import type { ProbePlace } from "../dataplane.ts";
import { PROBE_MAPS, PROBE_PROGRAMS, ProbeKey, ProbePath, ProbeRodata } from "./abi.gen.ts";
import { probeObjectPath } from "./built.ts";
import type { MapSet } from "./maps.ts";
import type { BpfObject, Native, XdpLink } from "./native.ts";
import { failureFrom } from "./native_failure.ts";
import type { Requests } from "./netlink/requests.ts";
import { addressBytes, ROUTE_TYPES } from "./netlink/rtnetlink.ts";
import { defaultMark, layRoad, leadThere, removeRoad, roadNames, type Road, type RoadMarks } from "./probe_road.ts";
import { ADDRESS_MARK } from "./vip.ts";

/** Of the maps in probe.bpf.c, the one that is not the plane's. */
const OWN_MAP = "probe_paths";
/** XDP_FLAGS_SKB_MODE: redirects to whatever there is, also to drivers without XDP. */
const GENERIC = 2;
const ANY = 0;
/** A road that cannot be laid is tried again, at the next probe after this time. */
const RETRY_MS = 2_000;
/** So is a family's way there, less often: each attempt has everybody look up their routes anew. */
const FAMILY_RETRY_MS = 30_000;
/** Of rp_filter; 2 is loose. */
const STRICT = 1;
/** Spreads ports over 32 bits, as Knuth's multiplicative hash does (2^32 divided by the golden ratio). */
const SPREAD = 0x9e37_79b1;

interface Loaded {
  readonly object: BpfObject;
  readonly link: XdpLink;
  /** Those of the plane that it was loaded over. */
  readonly maps: MapSet;
}

export interface ProbePathsOptions {
  readonly native: Native;
  readonly env: Env;
  readonly requests: Requests;
  readonly config: Config;
  /** Of an interface that the plane is attached to; null for any other. */
  readonly nameOf: (ifindex: number) => string | null;
}

/** The road of each instance belongs to one plane of this process, and to the last one that asked. */
const owners = new Map<string, ProbePaths>();

export class ProbePaths {
  readonly #options: ProbePathsOptions;
  readonly #instance: string;
  #road: Road | null = null;
  /** Families that are led there. */
  readonly #led = new Set<4 | 6>();
  #loaded: Loaded | null = null;
  /** What could not be had, which is not tried for a while: the road (0), or a family's way there. */
  readonly #refused = new Map<0 | 4 | 6, { readonly reason: string; readonly untilMs: number }>();
  /** What stands in the way of probes, by virtual address. */
  readonly #told = new Map<string, string>();

  constructor(options: ProbePathsOptions) {
    this.#options = options;
    this.#instance = options.config.instance;
  }

  /** A socket that is connecting; or why there is none, which is no fault of the backend. */
  connect(place: ProbePlace, table: ForwardingTable | null, maps: MapSet): Socket | string {
    try {
      return this.#connect(place, table, maps);
    } catch (error) {
      return this.#tell(place.address, reasonOf(error));
    }
  }

  #connect(place: ProbePlace, table: ForwardingTable | null, maps: MapSet): Socket | string {
    const destination = destinationOf(place, table);
    if (typeof destination === "string") return destination;
    const { address } = place;
    const reason = this.#attempt(0, () => { this.#prepare(maps); return null; })
      ?? this.#attempt(address.family, () => this.#lead(address.family))
      ?? this.#blocked(address) ?? this.#filtered(address, destination);
    const source = reason === null ? this.#source(address, destination) : null;
    if (source === null) {
      const none = `this host has no IPv${address.family} address that ${destination.name} could answer to`;
      return this.#tell(address, reason ?? none);
    }
    const socket = this.#open(place, destination, source);
    this.#untell(address);
    return socket;
  }

  /** Takes the road away, or what a dead owner left of it; unless another plane has it. Safe to repeat. */
  close(): void {
    const owner = owners.get(this.#instance);
    if (owner !== undefined && owner !== this) return;
    owners.delete(this.#instance);
    this.#forget();
    this.#refused.clear();
    try {
      removeRoad(this.#options.requests, this.#instance, this.#marks());
    } catch (error) {
      this.#options.env.log.warn({ error: reasonOf(error) }, "what health probes needed could not be taken away");
    }
  }

  /** What stands in the way is said once, however many addresses it stands in the way of. */
  #tell({ text }: Address, reason: string): string {
    const isKnown = [...this.#told.values()].includes(reason);
    this.#told.set(text, reason);
    if (!isKnown) this.#options.env.log.warn({}, `health probes cannot travel as clients' packets do: ${reason}`);
    return reason;
  }

  #untell({ text }: Address): void {
    if (!this.#told.delete(text)) return;
    this.#options.env.log.info({}, `health probes to ${text} travel as clients' packets do again`);
  }

  /** Null, or the reason why it failed now or a moment ago. */
  #attempt(what: 0 | 4 | 6, action: () => string | null): string | null {
    const refused = this.#refused.get(what);
    if (refused !== undefined && this.#options.env.clock.monotonicMs() < refused.untilMs) return refused.reason;
    this.#refused.delete(what);
    try {
      const reason = action();
      return reason === null ? null : this.#refuse(what, reason);
    } catch (error) {
      return this.#refuse(what, reasonOf(error));
    }
  }

  #refuse(what: 0 | 4 | 6, reason: string): string {
    const pauseMs = what === 0 ? RETRY_MS : FAMILY_RETRY_MS;
    this.#refused.set(what, { reason, untilMs: this.#options.env.clock.monotonicMs() + pauseMs });
    return reason;
  }

  #prepare(maps: MapSet): void {
    if (this.#road === null) this.#lay();
    if (this.#loaded?.maps !== maps) this.#load(maps, this.#road!);
  }

  #marks(): RoadMarks {
    const { mark, table } = this.#options.config.dataplane.probes;
    const own = defaultMark(this.#instance);
    return { mark: mark ?? own, table: table ?? own };
  }

  #lay(): void {
    const { native, requests } = this.#options;
    const before = owners.get(this.#instance);
    if (before !== this) before?.close();
    owners.set(this.#instance, this);
    this.#road = layRoad(native, requests, this.#instance, this.#marks());
  }

  #lead(family: 4 | 6): string | null {
    if (this.#led.has(family)) return null;
    const reason = leadThere(this.#options.requests, family, this.#road!);
    if (reason === null) this.#led.add(family);
    return reason;
  }

  /** Again when the plane's maps are other ones: what has grown is a new map. */
  #load(maps: MapSet, road: Road): void {
    const { native, env } = this.#options;
    const object = native.BpfObject.open(probeObjectPath(env));
    try {
      for (const name of PROBE_MAPS) {
        const shared = name === OWN_MAP ? this.#loaded?.object.map(OWN_MAP) : maps[name];
        if (shared !== undefined) object.reuseMap(name, shared);
      }
      const initial = object.section(ProbeRodata.section) ?? new Uint8Array(ProbeRodata.size);
      // What does not fit ends there: nobody needs to be told.
      const switches = { featureIcmpErrors: false, transmitByRedirect: true };
      object.setSection(ProbeRodata.section, ProbeRodata.encode(initial, switches));
      object.load();
      const [program] = PROBE_PROGRAMS;
      const link = this.#loaded?.link ?? native.XdpLink.attach(object, program, road.farIfindex, GENERIC);
      if (this.#loaded !== null) link.update(object, program);
      this.#loaded?.object.close();
      this.#loaded = { object, link, maps };
    } catch (error) {
      object.close();
      throw error;
    }
  }

  #forget(): void {
    this.#loaded?.link.close();
    this.#loaded?.object.close();
    this.#loaded = null;
    this.#road = null;
    this.#led.clear();
  }

  /** Asks the kernel itself, since rules and addresses are everybody's. */
  #blocked(address: Address): string | null {
    const road = this.#road!;
    const way = this.#options.requests.markedRoute(address, road.mark);
    if (typeof way !== "number" && way.type === ROUTE_TYPES.LOCAL) {
      return `this host has ${address.text} itself, so its own connections to it never leave: take it off, and have a `
        + "router send it here";
    }
    if (typeof way !== "number" && way.ifindex === road.nearIfindex) return null;
    // Somebody has taken the road away, or has a rule that comes before ours.
    this.#forget();
    const found = typeof way === "number" ? `is refused with errno ${way}` : `by interface ${way.ifindex}`;
    return this.#refuse(0, `mark ${road.mark} does not lead to ${address.text} by ${roadNames(this.#instance).near} but`
      + ` ${found}: somebody took that away, or has a rule that comes before (then set dataplane.probes.mark)`);
  }

  /**
   * Whether answers would be dropped on arrival: where IPv4's reverse path filter is strict, the way back to
   * the virtual address has to be that of the backend; where it is loose, there has to be one (ip-sysctl.rst).
   */
  #filtered(virtual: Address, { address }: Destination): string | null {
    if (virtual.family === 6) return null;
    const { requests, env, nameOf } = this.#options;
    const way = requests.route(address);
    const name = typeof way === "number" ? null : nameOf(way.ifindex);
    if (typeof way === "number" || name === null) return null;
    const mode = Math.max(...["all", name].map((each) => filterMode(env, each)));
    if (mode === 0) return null;
    const back = requests.route(virtual);
    const isThere = typeof back !== "number";
    if (isThere && (mode !== STRICT || back.ifindex === way.ifindex)) return null;
    return `rp_filter drops what ${name} receives from ${virtual.text}, to which this host has`
      + ` ${isThere ? "another route" : "no route"}: set net.ipv4.conf.${name}.rp_filter and`
      + ` net.ipv4.conf.all.rp_filter to ${isThere ? 2 : 0}, or give it a route to ${virtual.text} by ${name}`;
  }

  /** Where the backend's answers find this host: what it would speak from to the backend itself. */
  #source(virtual: Address, { address }: Destination): Address | null {
    const { requests } = this.#options;
    const { family } = virtual;
    const way = requests.route(address);
    if (typeof way === "number") return null;
    if (address.family === family) return way.source;
    // A tunnel of the other family: what this host would speak from to the virtual address, else what it
    // has on the backend's side.
    const other = requests.route(virtual);
    if (typeof other !== "number" && other.source !== null && !isLinkLocal(other.source)) return other.source;
    const own = requests.addresses().filter((each) =>
      each.ifindex === way.ifindex && each.address.family === family && each.protocol !== ADDRESS_MARK
      && !isLinkLocal(each.address));
    return own[0]?.address ?? null;
  }

  #open(place: ProbePlace, { id, generation }: Destination, source: Address): Socket {
    const { native, env: { net } } = this.#options;
    const { descriptor, port } = native.openMarkedSocket(addressBytes(source), this.#road!.mark);
    const socket = net.adopt(descriptor);
    try {
      const flowHash = Math.imul(port, SPREAD) >>> 0;
      this.#loaded!.object.map(OWN_MAP).update(
        ProbeKey.encode({ address: source.bytes, port }), ProbePath.encode({ destination: id, generation, flowHash }), ANY,
      );
      const { address } = place;
      return socket.connect({ host: address.text, port: place.port, family: address.family, noDelay: true });
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }
}

function destinationOf(place: ProbePlace, table: ForwardingTable | null): Destination | string {
  const service = table?.services.find(({ name }) => name === place.service);
  if (table === null || service === undefined) return `service ${place.service} is not in the forwarding table yet`;
  for (const id of service.destinations) {
    const destination = table.destinations.get(id);
    if (destination?.name === place.backend) return destination;
  }
  return `${place.backend} is not in the forwarding table yet`;
}

function reasonOf(error: unknown): string {
  const failure = failureFrom(error);
  return failure instanceof Error ? failure.message : String(failure);
}

function filterMode(env: Env, name: string): number {
  const text = env.files.read(`/proc/sys/net/ipv4/conf/${name}/rp_filter`);
  return text === null ? 0 : Number(new TextDecoder().decode(text));
}
