// The XDP program against decide(): the same state on both sides, one packet after the other, and
// the same verdict, backend and effects demanded, as well as the right bytes and sums. Knows both
// sides and how they are compared; the random part comes from random_tables.ts and
// random_frames.ts.

import type { Forwarding } from "../../src/model/config.ts";
import { decide, opensConnection } from "../../src/model/decide.ts";
import type {
  Decision,
  FlowEntry,
  Packet,
  State,
  VerdictName,
} from "../../src/model/decide.ts";
import { withPorts } from "../../src/model/fragment.ts";
import type { FragmentEntry } from "../../src/model/fragment.ts";
import { isForThisHost } from "../../src/model/link_address.ts";
import { flowHash } from "../../src/model/flow_hash.ts";
import { flowKeyOf, parsePacket } from "../../src/model/packet.ts";
import type { FlowTuple, ParsedPacket } from "../../src/model/packet.ts";
import { TRACKING_OUTCOMES } from "../../src/model/flow_decide.ts";
import type { PickAlgorithm } from "../../src/model/pick.ts";
import { QUIC_OUTCOMES } from "../../src/model/quic_route.ts";
import type { QuicOutcome } from "../../src/model/quic_route.ts";
import type { Destination } from "../../src/model/table.ts";
import { hashMask } from "../../src/model/tunnel_source.ts";
import { VERDICT_NAMES } from "../../src/dataplane/xdp/abi.gen.ts";
import type { BpfWorld, Hop, Traffic } from "./bpf_world.ts";
import { AnswerBook } from "./answer_book.ts";
import { AffinityBook } from "./affinity_book.ts";
import { residuesOf } from "./checksums.ts";
import { effectProblem, isSameEntry, TICK_NS } from "./flow_effects.ts";
import { isNatService } from "../../src/model/nat_decide.ts";
import { lean } from "./lean.ts";
import { NatBook } from "./nat_book.ts";
import { FlowBook, keyOf } from "./flow_book.ts";
import { PickBook } from "./pick_book.ts";
import { FragmentBook } from "./fragment_book.ts";
import { randomFrame } from "./random_frames.ts";
import { randomWorld, tunnelSourceFor } from "./random_tables.ts";
import type { RandomWorld } from "./random_tables.ts";
import {
  clampedMss,
  echoed,
  forwardedByL2,
  forwardedByTunnel,
  inVlanOf,
  isAsExpected,
  outerBytes,
  toldReset,
  toldTooBig,
  tagsOf,
  translatedTo,
  variedSource,
  withTags,
} from "./rewritten.ts";
import type { Expected, Tunnel } from "./rewritten.ts";
import { notesWanted } from "./tunnel_notes.ts";
import type { Draws } from "./random.ts";

/** enum xdp_action. */
const XDP_DROP = 1,
  XDP_PASS = 2,
  XDP_TX = 3,
  XDP_REDIRECT = 4;
const WORD_NUMBER = new Map<string, number>(VERDICT_NAMES.map((name, number) => [name, number]));

export interface Setting {
  readonly world: BpfWorld;
  readonly program: string;
  /**
   * Where a test run seems to arrive, an interface one can redirect to, and one that is not there.
   */
  readonly ingress: number;
  readonly egress: number;
  readonly absent: number;
  readonly transmitByRedirect: boolean;
  /** For a program that was loaded with LEAN_SWITCHES: the tables need nothing else. */
  readonly lean: boolean;
  /** How many packets were picked for, by the algorithm; and how many went where their client had been. */
  readonly picked: Map<PickAlgorithm | "affinity", number>;
  /** How many first answers were met, by their protocol. */
  readonly answered: Map<number, number>;
}

/** One random world and the packets that meet it. */
export class Comparison {
  readonly #setting: Setting;
  readonly #world: RandomWorld;
  readonly #fragments: FragmentBook;
  readonly #nat: NatBook;
  readonly #flows = new Map<string, { readonly tuple: FlowTuple; entry: FlowEntry }>();
  readonly #before: ReadonlyMap<string, { readonly packets: number; readonly bytes: number }>;
  readonly #counted = new Map<VerdictName, { packets: number; bytes: number }>();
  /** What the counters have to say at the end, by "service 3" and "destination 7". */
  readonly #traffic = new Map<string, { -readonly [K in keyof Traffic]: Traffic[K] }>();
  readonly #quic: number[];
  readonly #tracking: number[];
  readonly #flowBook: FlowBook;
  readonly #picks: PickBook;
  readonly #affinities: AffinityBook;
  readonly #answers: AnswerBook;
  #number = 0;

  /** Most destinations have this way of forwarding, unless the program is lean. */
  constructor(draws: Draws, setting: Setting, forwarding: Forwarding) {
    this.#setting = setting;
    const { world, ingress, egress, absent } = setting;
    const ifindexes = [ingress, ingress, ingress, ingress, egress, egress, egress, absent];
    const random = randomWorld(draws, ifindexes, process.hrtime.bigint(), forwarding);
    const made = setting.lean ? lean(random) : random;
    const hops = new Map(
      [...made.hops].map(([id, hop]) => [id, withTunnel(hop, made.table.destinations.get(id)!)]),
    );
    this.#world = { ...made, hops, replies: () => this.#nat.replies() };
    world.fill(made.table, {
      hop: ({ id }) => hops.get(id)!,
      heartbeatNs: made.heartbeatNs,
      linkAddresses: new Map(made.linkAddresses === null ? [] : [[ingress, made.linkAddresses]]),
      remembers: made.remembers,
      ringClass: setting.lean ? "medium" : draws.pick(["small", "small", "medium", "large"]),
    });
    for (const { tuple, entry } of made.flows) {
      if (entry === null) continue;
      world.putFlow(tuple, entry);
      this.#flows.set(keyOf(tuple), { tuple, entry });
    }
    this.#fragments = new FragmentBook(world, made.fragments);
    this.#nat = new NatBook(world, made.natFlows);
    this.#before = world.verdicts();
    this.#quic = world.quicOutcomes();
    this.#tracking = world.trackingOutcomes();
    this.#flowBook = new FlowBook(world, !setting.lean);
    this.#picks = new PickBook(world, made.table, draws, !setting.lean);
    this.#affinities = new AffinityBook(world, made.table, draws, process.hrtime.bigint(), !setting.lean);
    this.#answers = new AnswerBook(world, hops.keys());
    for (const id of hops.keys()) this.#expectTraffic("destination", id);
    for (const { index } of made.table.services) this.#expectTraffic("service", index);
  }

  /** One packet through both. Throws what differs. */
  step(draws: Draws): VerdictName {
    const frame = randomFrame(draws, this.#world);
    this.#picks.draw(draws);
    this.#number += 1;
    try {
      return this.#compare(frame);
    } catch (error) {
      if (error instanceof Error)
        error.message += `\npacket ${this.#number} of its world: ${hex(frame)}`;
      throw error;
    }
  }

  #compare(frame: Uint8Array): VerdictName {
    const parsed = parsePacket(frame);
    const fragment = typeof parsed === "string" ? null : this.#fragments.held(parsed);
    const nowNs = process.hrtime.bigint();
    const packet = typeof parsed === "string" ? parsed : withPorts(parsed, { fragment, nowNs });
    const tuple = typeof packet === "string" ? null : flowKeyOf(packet);
    const key = tuple === null ? "" : keyOf(tuple);
    const held = this.#flows.get(key)?.entry ?? null;
    const startNs = process.hrtime.bigint() - TICK_NS;
    const run = this.#setting.world.run(this.#setting.program, frame, frame.length + 64);
    const endNs = process.hrtime.bigint();

    const early = this.#decide(parsed, { flow: held, fragment, nowNs: startNs, frame });
    this.#checkVerdict(early.verdict, frame.length);
    if (early.verdict === "DROP_TUNNEL_ERROR") this.#checkNotes(early);
    this.#checkQuic(early.quic);
    this.#checkTracking(early, typeof packet !== "string" && packet.kind === "icmp-error");
    this.#checkFrame(early, packet, frame, run.action, run.output ?? new Uint8Array(0));
    if (early.how?.by === "pick" || early.how?.by === "affinity") {
      const by = early.how.by === "pick" ? early.service!.picking!.by : early.how.by;
      this.#setting.picked.set(by, (this.#setting.picked.get(by) ?? 0) + 1);
    }
    const late = this.#decide(parsed, { flow: held, fragment, nowNs: endNs, frame });
    this.#picks.check(early, held, tuple === null ? null : this.#nat.find(tuple), packet);
    const problem = this.#nat.take(early, startNs, endNs);
    if (problem !== null && this.#nat.take(late, startNs, endNs) !== null) throw new Error(problem);
    const isTranslated =
      early.back !== undefined || (early.service !== null && isNatService(early.service));
    if (tuple !== null && early.service !== null && early.service.config.tracking !== "none" && !isTranslated) {
      const found = this.#setting.world.flow(tuple);
      // A flow that comes of age during the run may be touched or not.
      const problem = effectProblem(early, held, found, startNs, endNs);
      if (problem !== null && effectProblem(late, held, found, startNs, endNs) !== null)
        throw new Error(problem);
      if (found === null) this.#flows.delete(key);
      else this.#flows.set(key, { tuple, entry: found });
    }
    this.#affinities.check([early, late], packet, startNs, endNs);
    if (this.#answers.check(early, late)) {
      const { protocol } = packet as ParsedPacket;
      this.#setting.answered.set(protocol, (this.#setting.answered.get(protocol) ?? 0) + 1);
    }
    this.#flowBook.check(isTranslated ? [] : [early, late], held, packet, startNs, endNs);
    if (typeof parsed !== "string")
      this.#fragments.check(parsed, early, startNs - TICK_NS, endNs);
    const isReply = early.back !== undefined;
    if (!isReply && ["TX_FORWARDED", "TX_ICMP_ERROR", "PASS_LOCAL"].includes(early.verdict))
      this.#countForwarded(early, packet as ParsedPacket, frame.length);
    return early.verdict;
  }

  #decide(
    packet: ReturnType<typeof parsePacket>,
    known: {
      flow: FlowEntry | null; fragment: FragmentEntry | null; nowNs: bigint; frame: Uint8Array;
    },
  ): Decision {
    if (typeof packet === "string")
      return { verdict: packet, service: null, destination: null, effects: [], how: null };
    const { table, hops, heartbeatNs, linkAddresses } = this.#world;
    const { absent, ingress, egress } = this.#setting;
    const state: State = {
      isForThisHost: isForThisHost(linkAddresses, known.frame),
      flow: known.flow,
      fragment: known.fragment,
      nowNs: known.nowNs,
      nat: {
        find: (key) => this.#nat.find(key),
        way: {
          ifindex: ingress, clientMac: known.frame.slice(6, 12), ownMac: known.frame.slice(0, 6),
          tags: tagsOf(known.frame),
        },
        ownAddress: (id) => hops.get(id)!.tunnelSource,
        obstacle: ({ ifindex }) => {
          if (ifindex === absent) return "DROP_NO_NEIGHBOUR";
          return ifindex === egress && packet.ipLength > EGRESS_MTU ? "DROP_TOO_BIG" : null;
        },
        hasRoom: true,
      },
      heartbeatNs,
      local: (id) => hops.get(id)!.local,
      neighbour: (id) => hops.get(id)!.resolved && hops.get(id)!.ifindex !== this.#setting.absent,
      obstacle: (id, { config: { secondChance } }) => {
        const { mtu } = hops.get(id)!;
        const outer = outerBytes(table.destinations.get(id)!, secondChance);
        return mtu > 0 && packet.ipLength + outer > mtu ? "DROP_TOO_BIG" : null;
      },
      tunnelSource: (id) => {
        const { tunnelSource, tunnelSourceMask } = hops.get(id)!;
        return { address: tunnelSource, mask: tunnelSourceMask };
      },
      mtu: (id) => hops.get(id)!.mtu,
      pick: (service) => this.#picks.state(service),
      affinity: (service) => this.#affinities.held(service, withPorts(packet, known)),
      mayRemember: (_, kind) => this.#world.remembers[kind],
    };
    return decide(table, state, packet);
  }

  #checkNotes({ destination, effects }: Decision): void {
    const found = this.#setting.world.notes().join();
    const wanted = notesWanted(destination!.id, effects).join();
    if (found !== wanted) throw new Error(`"${wanted}" to be noted, found "${found}"`);
  }

  /** The verdict is read from the counters: an action alone says too little. */
  #checkVerdict(expected: VerdictName, bytes: number): void {
    const counted = this.#counted.get(expected) ?? { packets: 0, bytes: 0 };
    counted.packets += 1;
    counted.bytes += bytes;
    this.#counted.set(expected, counted);
    const before = this.#before.get(expected)!;
    const now = this.#setting.world.verdict(WORD_NUMBER.get(expected)!);
    if (
      now.packets === before.packets + counted.packets &&
      now.bytes === before.bytes + counted.bytes
    )
      return;
    const others = [...this.#setting.world.verdicts()].filter(
      ([name, count]) =>
        count.packets !==
        this.#before.get(name)!.packets + (this.#counted.get(name as VerdictName)?.packets ?? 0),
    );
    throw new Error(
      `decide() says ${expected}; the program counted otherwise: ${JSON.stringify(others)}`,
    );
  }

  /** What the program says of the connection ID is what the model does, and nothing where it is silent. */
  #checkQuic(outcome: QuicOutcome | undefined): void {
    if (outcome !== undefined) this.#quic[QUIC_OUTCOMES.indexOf(outcome)]! += 1;
    const found = this.#setting.world.quicOutcomes();
    if (found.some((count, at) => count !== this.#quic[at]))
      throw new Error(`decide() counts ${outcome ?? "no ID"}: ${found.join()} and not ${this.#quic.join()}`);
  }

  /** What left is counted, other than errors about flows. */
  #checkTracking({ tracking, verdict }: Decision, isError: boolean): void {
    if (!isError && tracking !== undefined && (verdict === "TX_FORWARDED" || verdict === "PASS_LOCAL"))
      this.#tracking[TRACKING_OUTCOMES.indexOf(tracking)]! += 1;
    const found = this.#setting.world.trackingOutcomes();
    if (found.some((count, at) => count !== this.#tracking[at]))
      throw new Error(`decide() counts ${tracking ?? "no exception"}: ${found.join()} and not ${this.#tracking.join()}`);
  }

  #checkFrame(
    decision: Decision,
    packet: ReturnType<typeof parsePacket>,
    frame: Uint8Array,
    action: number,
    output: Uint8Array,
  ): void {
    const { verdict } = decision;
    if (verdict.startsWith("DROP_")) return expectAction(action, XDP_DROP, verdict);
    if (verdict.startsWith("PASS_") || typeof packet === "string") {
      expectAction(action, XDP_PASS, verdict);
      if (!isAsExpected(output, { frame, sums: [] }))
        throw new Error(`${verdict}, but the frame was changed`);
      return;
    }
    const { ingress, transmitByRedirect } = this.#setting;
    const isAnswer = verdict === "TX_ECHO_REPLY" || verdict === "TX_TOO_BIG" || verdict === "TX_RESET";
    const ifindex =
      isAnswer
        ? ingress
        : (decision.back?.ifindex ?? this.#world.hops.get(decision.destination!.id)!.ifindex);
    expectAction(
      action,
      ifindex === ingress && !transmitByRedirect ? XDP_TX : XDP_REDIRECT,
      verdict,
    );
    const plain = this.#expectedFrame(decision, packet, frame);
    const expected = isAnswer || decision.back !== undefined ? plain
      : inVlanOf(this.#world.hops.get(decision.destination!.id)!, packet, plain);
    if (!isAsExpected(output, expected)) {
      throw new Error(`${verdict}: the frame is ${hex(output)} and not ${hex(expected.frame)}`);
    }
    if (verdict === "TX_TOO_BIG" || verdict === "TX_RESET") checkNewSums(output);
    else checkSums(frame, output, !isAnswer && outerOf(decision) > 0);
  }

  #expectedFrame(decision: Decision, packet: ParsedPacket, received: Uint8Array): Expected {
    // What leaves for a backend or its client; an answer of ours is made of the frame as it came.
    const carries = decision.verdict === "TX_FORWARDED" || decision.verdict === "TX_REPLY";
    const isAsked = decision.back === undefined ? !packet.ack : packet.ack;
    const mssMax = carries && isAsked ? (decision.service?.config.mssMax ?? null) : null;
    const { frame, sums } = clampedMss(received, packet, mssMax);
    const expected = this.#rewritten(decision, packet, frame);
    const shift = expected.frame.length - frame.length;
    return { frame: expected.frame, sums: [...expected.sums, ...sums.map((sum) => sum + shift)] };
  }

  #rewritten(decision: Decision, packet: ParsedPacket, frame: Uint8Array): Expected {
    if (decision.verdict === "TX_ECHO_REPLY") return echoed(frame, packet);
    if (decision.verdict === "TX_RESET") return toldReset(frame, packet);
    if (decision.back !== undefined) {
      if (decision.verdict === "TX_TOO_BIG") return toldTooBig(frame, packet, EGRESS_MTU);
      const macs = { destinationMac: decision.back.clientMac, sourceMac: decision.back.ownMac };
      return withTags(translatedTo(frame, packet, macs, decision.to!), packet, decision.back.tags);
    }
    const { id, forwarding, address, gue } = decision.destination!;
    const hop = this.#world.hops.get(id)!;
    if (decision.verdict === "TX_TOO_BIG")
      return toldTooBig(frame, packet, Math.max(0, hop.mtu - outerBytes(decision.destination!, decision.service?.config.secondChance)));
    if (decision.to !== undefined) return translatedTo(frame, packet, hop, decision.to);
    if (forwarding === "l2") return forwardedByL2(frame, packet, hop);
    if (forwarding !== "ipip" && forwarding !== "gue" && forwarding !== "gre")
      throw new Error(`the random tables have no ${forwarding}`);
    const { hashSeed } = decision.service!;
    const { source, sourcePort, destination, destinationPort, protocol } = packet;
    const hash = flowHash(hashSeed, source, sourcePort, destination, destinationPort, protocol);
    return forwardedByTunnel(frame, packet, hop, {
      source: variedSource(hop, hash),
      destination: address,
      forwarding,
      gue,
      hash,
      ...decision.alternates === undefined ? {} : { alternates: this.#named(decision.alternates) },
    });
  }

  #named(ids: readonly number[]): NonNullable<Tunnel["alternates"]> {
    return { addresses: ids.map((id) => this.#world.table.destinations.get(id)!.address), asked: 0 };
  }

  #expectTraffic(of: "service" | "destination", index: number): void {
    this.#traffic.set(`${of} ${index}`, { ...this.#setting.world.traffic(of, index) });
  }

  /** A flow is new when it is remembered or, where none are, when a connection opens. */
  #countForwarded(
    { service, destination, effects, how }: Decision,
    packet: Packet,
    bytes: number,
  ): void {
    const tracked = service!.config.tracking === "full";
    const isNew = isNatService(service!) ? how?.by !== "flow" : tracked ? effects.some(({ kind }) => kind === "remember") : opensConnection(packet);
    for (const name of [`service ${service!.index}`, `destination ${destination!.id}`]) {
      const count = this.#traffic.get(name)!;
      count.packets += 1;
      count.bytes += bytes;
      count.flows += isNew ? 1 : 0;
    }
  }

  /** What only shows at the end: nothing else was counted, and no other flow was written. */
  finish(): void {
    const { world } = this.#setting;
    const total = [...world.verdicts().values()].reduce((sum, { packets }) => sum + packets, 0);
    const before = [...this.#before.values()].reduce((sum, { packets }) => sum + packets, 0);
    if (total !== before + this.#number)
      throw new Error(`${this.#number} packets, but ${total - before} verdicts`);
    for (const [name, expected] of this.#traffic) {
      const [of, index] = name.split(" ") as ["service" | "destination", string];
      const found = world.traffic(of, Number(index));
      if (JSON.stringify(found) !== JSON.stringify(expected)) {
        throw new Error(
          `${name} counted ${JSON.stringify(found)} and not ${JSON.stringify(expected)}`,
        );
      }
    }
    const notes = world.notes();
    if (notes.length > 0) throw new Error(`noted without a cause: ${notes.join(", ")}`);
    this.#fragments.finish();
    this.#nat.finish();
    this.#flowBook.finish();
    this.#picks.finish();
    this.#affinities.finish();
    this.#answers.finish();
    const remembered = world.countOf("flows");
    if (remembered !== this.#flows.size)
      throw new Error(`${remembered} flows are remembered and not ${this.#flows.size}`);
    for (const { tuple, entry } of this.#flows.values()) {
      if (!isSameEntry(world.flow(tuple), entry))
        throw new Error("a flow was written that no packet was of");
    }
  }
}

/** Of the interface made for leaving by; the other one is a loopback interface. */
const EGRESS_MTU = 1500;

/** What a tunnel puts around the packet. */
function outerOf({ destination, back }: Decision): number {
  return destination === null || back !== undefined ? 0 : outerBytes(destination);
}

function withTunnel(hop: Hop, destination: Destination): Hop {
  const prefix = tunnelSourceFor(destination);
  return { ...hop, tunnelSource: prefix.address.bytes, tunnelSourceMask: hashMask(prefix) };
}

function expectAction(found: number, expected: number, verdict: string): void {
  if (found !== expected) throw new Error(`${verdict} with action ${found}, not ${expected}`);
}

/** Right stays right, and wrong by so much stays wrong by as much; an outer header is right. */
function checkSums(frame: Uint8Array, output: Uint8Array, isTunnel: boolean): void {
  const before = residuesOf(frame);
  const after = residuesOf(output);
  const outer = isTunnel ? after.headers.slice(0, 1) : [];
  const inner = isTunnel ? after.headers.slice(1) : after.headers;
  const ok =
    outer.every((one) => one === null || one === 0) &&
    inner.length === before.headers.length &&
    inner.every((one, at) => one === before.headers[at]) &&
    after.transport === before.transport;
  if (!ok)
    throw new Error(
      `sums off by ${JSON.stringify(after)}, before by ${JSON.stringify(before)}: ${hex(output)}`,
    );
}

/** Sums that were made and not carried are right whatever came. */
function checkNewSums(output: Uint8Array): void {
  const { headers, transport } = residuesOf(output);
  if (transport === 0 && headers.every((one) => one === null || one === 0)) return;
  throw new Error(`sums off by ${JSON.stringify({ headers, transport })}: ${hex(output)}`);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
