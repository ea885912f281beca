// New flows that the program places one by one go where pick() sends them, and it counts them itself: flow by flow,
// with the loads that the program has counted so far, until all are closed again.

import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { compile } from "../../src/model/compile.ts";
import { flowHash } from "../../src/model/flow_hash.ts";
import { pick, pickWeight, type XdpPick } from "../../src/model/pick.ts";
import { slotOf } from "../../src/model/flow_hash.ts";
import { EMPTY_LEDGER, type ForwardingTable, type Service } from "../../src/model/table.ts";
import { BpfWorld, type Hop } from "../support/bpf_world.ts";
import { configOf } from "../support/configs.ts";
import { ADDON_PATH, BPF_DIRECTORY, describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, ipv4, TCP } from "../support/packets.ts";
import { PickBook } from "../support/pick_book.ts";
import { Draws } from "../support/random.ts";
import { LEAN_SWITCHES } from "../support/lean.ts";
import type { Switches } from "../support/switches.ts";
import { PICKS } from "../support/random_tables.ts";

const LOOPBACK = 1;
const [FIN_ACK, SYN, RST] = [17, 2, 4];
const VIRTUAL = ipv4(203, 0, 113, 10);
const FLOWS = 600;
const WEIGHTS = [1, 2, 2, 5, 40];

const HOP: Hop = {
  destinationMac: Uint8Array.of(2, 0, 0, 0, 0, 9), sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 8), ifindex: LOOPBACK, mtu: 1500,
  resolved: true, vlan: 0, local: false, tunnelSource: new Uint8Array(16), tunnelSourceMask: 0,
};

function tableOf(algorithm: XdpPick): ForwardingTable {
  const config = configOf({
    pools: { web: WEIGHTS.map((weight, at) => ({ name: `b${at}`, weight })) },
    services: [{ name: "web", port: 80, tracking: "full", ringSize: 251, algorithm }],
  });
  const intent = { config, hashSeed: 5n, overrides: [], health: new Map(), nowMs: 1 };
  return compile(intent, { ledger: EMPTY_LEDGER, generation: 0 });
}

/** What the verifier cuts off differs: a kernel may be right with all of the program and wrong with a part of it. */
interface Variant {
  readonly title: string;
  readonly switches: Switches;
  readonly ringClass: "small" | "medium";
}
const VARIANTS: readonly Variant[] = [
  { title: "all of the program", switches: {}, ringClass: "small" },
  { title: "no more than it takes", switches: { ...LEAN_SWITCHES, feature_tracking: true, feature_pick: true }, ringClass: "medium" },
];

class Scene {
  readonly world: BpfWorld;
  table!: ForwardingTable;
  service!: Service;
  #draws!: Draws;

  readonly #ringClass: "small" | "medium";

  constructor({ switches, ringClass }: Pick<Variant, "switches" | "ringClass">) {
    this.#ringClass = ringClass;
    this.world = new BpfWorld(loadNative(ADDON_PATH), {
      object: join(BPF_DIRECTORY, "pointsman.bpf.o"), switches, flowsMax: 65_536, devices: [LOOPBACK],
    });
  }

  begin(algorithm: XdpPick): PickBook {
    this.table = tableOf(algorithm);
    this.service = this.table.services[0]!;
    this.world.fill(this.table, { hop: () => HOP, heartbeatNs: 0n, ringClass: this.#ringClass });
    this.#draws = new Draws(PICKS.indexOf(algorithm));
    const book = new PickBook(this.world, this.table, this.#draws, true);
    const { destinations, services } = this.world.loads();
    destinations.fill(0n);
    services.fill(0n);
    return book;
  }

  load(id: number): number {
    return Number(this.world.loads().destinations[id]);
  }

  send(client: number, flags: number): number | null {
    const tuple = { source: ipv4(198, 18, client >> 8, client & 255), sourcePort: 5000, destination: VIRTUAL, destinationPort: 80, protocol: TCP };
    this.world.run("pointsman", frameOf({ ...tuple, flags }), 256);
    return this.world.flow(tuple)?.destination ?? null;
  }

  /** A new flow: where it went, and where pick() sends it. */
  open(client: number, book: PickBook): readonly [number | null, number | undefined] {
    book.draw(this.#draws);
    const state = {
      ...book.state(this.service), load: (id: number) => this.load(id),
      loadTotal: () => Number(this.world.loads().services[this.service.index]),
    };
    const hash = flowHash(this.service.hashSeed, ipv4(198, 18, client >> 8, client & 255), 5000, VIRTUAL, 80, TCP);
    const wanted = pick(this.table, this.service, this.service.picking!, state, slotOf(hash, this.service.ring.size));
    const found = this.send(client, SYN);
    if (wanted.turn !== undefined) expect(this.world.picks(this.service.index).map(({ turn }) => turn)).toContain(wanted.turn);
    return [found, wanted.destination?.id];
  }
}

describeKernel("packets that are picked for", KERNEL, () => {
  describe.each(VARIANTS)("by $title", placesFlows);
});

function placesFlows(variant: Variant): void {
  let scene: Scene;
  beforeAll(() => { scene = new Scene(variant); });
  afterAll(() => { scene?.world.close(); });

  it.each(PICKS)("%s: each flow goes where pick() sends it, and loads count what is open", (algorithm) => {
    const book = scene.begin(algorithm);
    const counts = new Map<number, number>();
    for (let client = 0; client < FLOWS; client += 1) {
      const [found, wanted] = scene.open(client, book);
      expect(found, `flow ${client}`).toBe(wanted);
      counts.set(found!, (counts.get(found!) ?? 0) + 1);
    }
    for (const [id, count] of counts) expect(scene.load(id), `of ${id}`).toBe(count);
    expect(scene.world.loads().services[scene.service.index]).toBe(BigInt(FLOWS));
    // A second SYN opens nothing new; a FIN or RST ends it once; a connection that opens again counts again.
    scene.send(0, SYN);
    expect(scene.world.loads().services[scene.service.index]).toBe(BigInt(FLOWS));
    for (let client = 0; client < FLOWS; client += 1) scene.send(client, client % 2 === 0 ? FIN_ACK : RST);
    for (let client = 0; client < FLOWS; client += 1) scene.send(client, FIN_ACK);
    for (const id of counts.keys()) expect(scene.load(id), `of ${id}`).toBe(0);
    scene.send(7, SYN);
    expect(scene.world.loads().services[scene.service.index]).toBe(1n);
  });

  it("least-connections: for their weights, nobody has a flow more than another might", () => {
    const book = scene.begin("least-connections");
    for (let client = 0; client < FLOWS; client += 1) scene.open(client, book);
    const all = [...scene.table.destinations.values()];
    for (const one of all) {
      for (const other of all) {
        // The last flow of `one` was not more than `other` would have had with one more.
        expect(scene.load(one.id) * pickWeight(other)).toBeLessThanOrEqual((scene.load(other.id) + 1) * pickWeight(one));
      }
    }
  });

  it("bounded-load: nobody has more than the factor allows, at any moment", () => {
    const book = scene.begin("bounded-load");
    const total = WEIGHTS.reduce((sum, weight) => sum + weight);
    for (let client = 0; client < FLOWS; client += 1) {
      const [found] = scene.open(client, book);
      const bound = 1.25 * (client + 1) * pickWeight(scene.table.destinations.get(found!)!) / total;
      expect(scene.load(found!), `flow ${client}`).toBeLessThan(bound + 1);
    }
  });
}
