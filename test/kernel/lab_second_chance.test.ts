// Two balancers behind a router that spreads flows over them. In one window the backends change and one
// balancer dies with all that it remembered: with the second chance no connection breaks, and without it
// those that only the dead one knew.

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { forwardBetweenBackends, gatewaysOf } from "../../scripts/lab_balancers.ts";
import { Flows } from "../../scripts/lab_flows.ts";
import type { FlowReport } from "../../scripts/lab_flows_client.ts";
import { raiseLab, VIP4, VIP6, type FarClient, type Lab, type LabHost } from "../../scripts/lab_network.ts";
import { serveBackend, startDecap, type Load } from "../../scripts/lab_services.ts";
import { runInSync } from "../../scripts/namespaces.ts";
import { parseAddress } from "../../src/model/address.ts";
import { alternatesBytesMax } from "../../src/model/alternates.ts";
import { randomised } from "../support/counts.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, TCP } from "../support/packets.ts";
import { Draws } from "../support/random.ts";
import { linkOf, sendFrame } from "./fixtures/frames.ts";
import { BalancerPair, changed, NAMED_PORT, type PairWay, type Wanted } from "./fixtures/two_balancers.ts";

const BACKENDS = 5;
const FLOWS = 120;
const FLOWS_BETWEEN = 60;
const [SHORT_BYTES, LONG_BYTES] = [40, 5000];
/** Between the router and the client. */
const FAR_MTU = 1300;
const SOURCES = ["198.18.0.0/29", "2001:db8::/125"];
const ACK = 16;

const WAYS: readonly PairWay[] = [
  { forwarding: "gue", backendFamily: 4, address: VIP4, secondChance: true },
  { forwarding: "gue", backendFamily: 6, address: VIP6, secondChance: true },
  { forwarding: "gre", backendFamily: 4, address: VIP6, secondChance: true },
];

describeKernel("two balancers", [...KERNEL, "tool:curl", "tool:ethtool", "tool:perl"], () => {
  let lab: Lab;
  let far: FarClient;
  let balancers: readonly [LabHost, LabHost];
  let decaps: Load[] = [];
  let pair: BalancerPair | null = null;
  let flows: Flows | null = null;
  let portsUsed = 20_000;

  beforeAll(async () => {
    const room = alternatesBytesMax({ forwarding: "gue", gue: { port: 6080, variant: 0 }, secondChance: true }, 6);
    lab = raiseLab({ label: "two", backends: BACKENDS, mtu: 1500, tunnelRoom: 52 + room, localVip: false });
    far = lab.addFarClient(FAR_MTU);
    balancers = [lab.balancer, lab.addBalancer()];
    forwardBetweenBackends(lab);
    await Promise.all(lab.backends.map((host) => serveBackend(host, { iperf: false, decap: false })));
  }, 60_000);
  afterEach(() => clear());
  afterAll(() => { lab?.close(); });

  async function clear(): Promise<void> {
    await flows?.close();
    await pair?.remove();
    for (const { process } of decaps) process.kill("SIGKILL");
    [flows, pair, decaps] = [null, null, []];
  }

  const weights = (count: number): Wanted["weights"] => new Map(lab.backends.slice(0, count).map(({ name }) => [name, 100]));

  async function start(way: PairWay): Promise<{ readonly pair: BalancerPair; readonly flows: Flows }> {
    for (const host of lab.backends) {
      // What the way to the client takes is to be learned anew.
      for (const family of ["-4", "-6"]) runInSync(host.namespace, "ip", [family, "route", "flush", "cache"]);
      const sources = SOURCES.flatMap((source) => ["--source", source]);
      decaps.push(await startDecap(host, "--second-chance", ...sources, "-o", "json"));
    }
    pair = await BalancerPair.start(lab, balancers, far, way, { weights: weights(BACKENDS - 1), drained: new Set() });
    flows = new Flows(far, way.address, NAMED_PORT);
    return { pair, flows };
  }

  /** Of all backends together; ends their programs. */
  async function decapCounts(): Promise<Readonly<Record<string, number>>> {
    const sums: Record<string, number> = {};
    for (const { process, lastLine } of decaps.splice(0)) {
      process.kill("SIGINT");
      for (const [verdict, packets] of Object.entries(JSON.parse(await lastLine) as Record<string, number>))
        sums[verdict] = (sums[verdict] ?? 0) + packets;
    }
    return sums;
  }

  function freshPorts(count: number): readonly number[] {
    portsUsed += count;
    return Array.from({ length: count }, (_, at) => portsUsed - count + at);
  }

  /** Connections that are open; every one is where the model says. */
  async function open(count: number): Promise<readonly FlowReport[]> {
    const reports = await flows!.open(freshPorts(count));
    expect(reports.map(({ name }) => name)).toEqual(reports.map(({ port }) => pair!.model.opens(port)));
    return reports;
  }

  /** Those that the second balancer had, of which the first one knows nothing. */
  async function ofTheDead(reports: readonly FlowReport[], { address }: PairWay): Promise<readonly FlowReport[]> {
    const gateways = await gatewaysOf(far, address, NAMED_PORT, reports.map(({ port }) => port));
    const gateway = address === VIP4 ? balancers[1].ipv4 : balancers[1].ipv6;
    const dead = reports.filter(({ port }) => gateways.get(port) === gateway);
    expect(dead.length).toBeGreaterThan(reports.length / 4);
    expect(dead.length).toBeLessThan(reports.length * 3 / 4);
    return dead;
  }

  /** A backend is added in a window that both see; the second balancer dies. What breaks, and who was led elsewhere. */
  async function loseOne(way: PairWay): Promise<{ readonly broken: readonly FlowReport[]; readonly led: readonly FlowReport[] }> {
    const running = await start(way);
    const older = await open(FLOWS);
    await running.pair.change({ weights: weights(BACKENDS), drained: new Set() });
    const younger = await open(FLOWS);
    const lost = await ofTheDead([...older, ...younger], way);
    await running.flows.talk();
    await running.pair.kill(balancers[1]);
    const after = await running.flows.settle(SHORT_BYTES);
    expect(after.length).toBe(2 * FLOWS);
    const led = lost.filter(({ port, name }) => running.pair.model.reaches(port)[0] !== name);
    expect(led.length).toBeGreaterThan(0);
    return { broken: after.filter(({ reason }) => reason !== null), led };
  }

  describe.each(WAYS)("$forwarding to IPv$backendFamily with the second chance", (way) => {
    it("breaks no connection that began before or after the change", { timeout: 120_000 }, async () => {
      const { broken, led } = await loseOne(way);
      expect(broken).toEqual([]);
      const { model } = pair!;
      for (const { port, name } of led) expect(model.reaches(port)).toContain(name);
      await tellsTheOwner(way, led[0]!);
      // Nothing of this size has come from the others.
      expect((await flows!.settle(LONG_BYTES)).filter(({ reason }) => reason !== null)).toEqual([]);
      const resets = await strayResets(way);
      expect(resets.sent).toEqual(resets.expected);
      const counts = await decapCounts();
      expect(counts["DECAP_TX_ALTERNATE"], JSON.stringify(counts)).toBeGreaterThan(led.length);
      expect(counts["DECAP_PASS_NO_WAY"], JSON.stringify(counts)).toBe(0);
    });
  });

  it("breaks those that only the dead one knew without it: the load would notice", { timeout: 120_000 }, async () => {
    const { broken, led } = await loseOne({ ...WAYS[0]!, secondChance: false });
    expect(broken.map(({ port }) => port)).toEqual(led.map(({ port }) => port));
    expect(new Set(broken.map(({ reason }) => reason))).toEqual(new Set(["ECONNRESET"]));
    expect((await decapCounts())["DECAP_TX_ALTERNATE"]).toBe(0);
  });

  it.each([1, 5])("breaks after %i changes what the model says, and nobody whose backend is named", { timeout: 1_200_000 }, async (changes) => {
    await randomised("lab_second_chance", async ({ seed, count }) => {
      for (let run = 0; run < count; run += 1) {
        await changeAndLose(WAYS[0]!, changes, new Draws(seed + run));
        await clear();
      }
    });
  });

  async function changeAndLose(way: PairWay, changes: number, draws: Draws): Promise<void> {
    const running = await start(way);
    let wanted: Wanted = { weights: weights(BACKENDS - 1), drained: new Set() };
    const removed = new Set<string>();
    const opened = [...await open(FLOWS_BETWEEN)];
    for (let change = 0; change < changes; change += 1) {
      wanted = changed(wanted, lab.backends.map(({ name }) => name), removed, draws);
      await running.pair.change(wanted);
      opened.push(...await open(FLOWS_BETWEEN));
    }
    const lost = await ofTheDead(opened, way);
    await running.flows.talk();
    await running.pair.kill(balancers[1]);
    const broken = (await running.flows.settle(SHORT_BYTES)).filter(({ reason }) => reason !== null);
    const isBereft = ({ name }: FlowReport): boolean => removed.has(name);
    const missed = lost.filter((flow) => !isBereft(flow) && !running.pair.model.reaches(flow.port).includes(flow.name));
    const predicted = [...opened.filter(isBereft), ...missed].map(({ port }) => port).sort((a, b) => a - b);
    const told = JSON.stringify({ wanted: [...wanted.weights], drained: [...wanted.drained], missed, broken });
    expect(broken.map(({ port }) => port), told).toEqual(predicted);
    if (changes === 1) expect(missed).toEqual([]);
    // Somebody answers for whoever is nobody's.
    expect(broken.filter(({ reason }) => reason !== "ECONNRESET")).toEqual([]);
  }

  /** The error of a router about an answer that is too long finds whoever sent it, by way of others. */
  async function tellsTheOwner({ address }: PairWay, { port, name }: FlowReport): Promise<void> {
    const host = lab.backends.find((each) => each.name === name)!;
    const [family, client] = address === VIP4 ? ["-4", far.ipv4] as const : ["-6", far.ipv6] as const;
    const route = (): string => runInSync(host.namespace, "ip", [family, "route", "get", client, "from", address]).stdout;
    expect(route()).not.toContain("mtu");
    expect(await flows!.ask(port, LONG_BYTES)).toMatchObject({ name, reason: null });
    expect(route()).toContain(`mtu ${FAR_MTU}`);
  }

  /** Resets by backend, when a packet comes that is nobody's, and whom the model expects to answer. */
  async function strayResets(
    { address }: PairWay,
  ): Promise<{ readonly sent: Readonly<Record<string, number>>; readonly expected: Readonly<Record<string, number>> }> {
    const stray = freshPorts(FLOWS).find((port) => pair!.model.reaches(port).length > 1)!;
    const before = lab.backends.map(resetsSent);
    const mac = (text: string): Uint8Array => Uint8Array.from(text.split(":"), (part) => parseInt(part, 16));
    sendFrame(far, frameOf({
      family: address === VIP4 ? 4 : 6, protocol: TCP, flags: ACK, sourcePort: stray, destinationPort: NAMED_PORT,
      source: parseAddress(address === VIP4 ? far.ipv4 : far.ipv6)!.bytes, destination: parseAddress(address)!.bytes,
      sourceMac: mac(linkOf(far).address), destinationMac: mac(linkOf(far.router, "far").address),
    }));
    const last = pair!.model.reaches(stray).at(-1)!;
    const sent = (): Record<string, number> =>
      Object.fromEntries(lab.backends.map((host, at) => [host.name, resetsSent(host) - before[at]!]));
    await expect.poll(() => Object.values(sent()).some((count) => count > 0), { timeout: 10_000 }).toBe(true);
    return { sent: sent(), expected: Object.fromEntries(lab.backends.map(({ name }) => [name, name === last ? 1 : 0])) };
  }

  /** TCP resets that the host has sent since it is up. */
  function resetsSent({ namespace }: LabHost): number {
    const [names = "", values = ""] = runInSync(namespace, "grep", ["^Tcp:", "/proc/net/snmp"]).stdout.split("\n");
    return Number(values.split(" ")[names.split(" ").indexOf("OutRsts")]);
  }
});
