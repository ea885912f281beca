// Planes that a release with maps of another shape has left: taken over while packets and flows go on, by supervisors
// that are killed before any of the things they do, in either direction; and refused where they cannot be.

import { readdirSync } from "node:fs";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { deleteOwn } from "../../scripts/namespaces.ts";
import { canonicalText, fingerprintOfText } from "../../src/dataplane/xdp/layout.ts";
import { parseLayout } from "../../src/dataplane/xdp/layout_text.ts";
import { pinLayout, pinnedFingerprint } from "../../src/dataplane/xdp/earlier_plane.ts";
import { ABI_FINGERPRINT, AnswerCount, Settings } from "../../src/dataplane/xdp/abi.gen.ts";
import { abiOfObject } from "../../src/dataplane/xdp/fingerprint.ts";
import type { BpfObject, Native } from "../../src/dataplane/xdp/native.ts";
import { openXdpPlane, packetProgram } from "../../src/dataplane/xdp/open_xdp.ts";
import { pinsOf } from "../../src/dataplane/xdp/pins.ts";
import { PROGRAM } from "../../src/dataplane/xdp/program.ts";
import type { XdpPlane } from "../../src/dataplane/xdp/xdp_plane.ts";
import { count, replayCommand, seed } from "../support/counts.ts";
import { buildEarlierRelease, type EarlierRelease } from "../support/earlier_release.ts";
import { seededRandom } from "../support/fake_env.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, ipv4, TCP } from "../support/packets.ts";
import { chosen, configOf, freshClients, type Change, type Client } from "./fixtures/crash_changes.ts";
import { CrashWorld, type Release } from "./fixtures/crash_world.ts";
import { Mortal } from "./fixtures/mortal.ts";
import { createWire, env, native, pinDirectory, programOn, REDIRECT, type Wire } from "./fixtures/plane_fixture.ts";

const service = (name: string, port: number, more: string): string =>
  `{ name: ${name}, address: 203.0.113.10, port: ${port}, pool: web, changeWindow: 300s, ringSize: 251, ${more} }`;
const side = (...backends: string[]): Change["from"] => ({
  backends, limits: "{ services: 8, backends: 16, flows: 1024, natFlows: 256 }",
  services: [
    service("web", 80, "protocol: tcp, forwarding: l2, tracking: full, geo: { regions: [{ name: eu, networks: [198.51.100.0/24], pool: web }] }"),
    service("quic", 443, "protocol: udp, forwarding: l2, tracking: minimal"),
    service("translated", 81, "protocol: tcp, forwarding: fullnat, policy: { deny: [192.0.2.0/24] }"),
    "{ name: many, address: 203.0.113.64/26, port: 1000-2000, protocol: tcp, forwarding: l2, pool: web }",
  ],
  dataplane: ', nat: { sources: [10.1.0.1], ports: "20000-40000" }',
});
/** Flows that begin before it, and are remembered, go elsewhere than new ones. */
const GROWTH: Change = { name: "a backend more", from: side("a", "b"), to: side("a", "b", "c") };
const EACH = 12;
const [HELD, BETWEEN, AFTER] = [1000, 2000, 3000];
const RUN = { repeat: 1, flags: 0, context: null, outputSizeMax: 2048, batchSize: 0 };
const [SYN, ACK] = [2, 16];

/** The frame as it leaves, byte for byte. */
function sent(program: BpfObject | XdpPlane, { port, protocol, from }: Client, opens: boolean): string {
  const frame = frameOf({
    source: ipv4(198, 51, 100, 7), destination: ipv4(203, 0, 113, 10), protocol, sourcePort: from,
    destinationPort: port, flags: protocol !== TCP ? 0 : opens ? SYN : ACK,
  });
  const { action, output } = "apply" in program ? program.testRun(frame, RUN) : program.testRun(PROGRAM, frame, RUN);
  return action === REDIRECT ? `${from} to ${port}: ${Buffer.from(output!).toString("hex")}` : `action ${action}`;
}

const HOLDERS = freshClients(EACH, HELD);

describeKernel("a plane of another release", KERNEL, () => {
  let earlier: EarlierRelease;
  let wire: Wire;
  const current: { release: Release | undefined } = { release: undefined };
  const worlds: CrashWorld[] = [];

  beforeAll(async () => {
    earlier = await buildEarlierRelease();
    wire = createWire("upgrade");
  }, 120_000);
  afterEach(async () => {
    for (const world of worlds.splice(0)) await world.remove();
  });
  afterAll(() => {
    deleteOwn();
    earlier?.remove();
  });

  interface Held {
    readonly world: CrashWorld;
    /** What leaves for those that have connections, for packets other than their first. */
    readonly frames: readonly string[];
    packets: number;
  }

  /** Serves with a backend more than when its flows began. */
  async function serving(release: Release | undefined): Promise<Held> {
    const world = new CrashWorld(GROWTH);
    worlds.push(world);
    await world.open("from", release);
    await world.apply("from");
    const opened = HOLDERS.map((client) => sent(world.plane, client, true));
    expect(opened.join()).not.toContain("action");
    await world.apply("to");
    const held: Held = { world, frames: HOLDERS.map((client) => sent(world.plane, client, false)), packets: 2 * HOLDERS.length };
    expect(held.frames.map(target)).toEqual(opened.map(target));
    return held;
  }

  function expectKept(held: Held, program: BpfObject | XdpPlane, when: string): void {
    expect(HOLDERS.map((client) => sent(program, client, false)), when).toEqual(held.frames);
    held.packets += HOLDERS.length;
  }

  function expectNew(held: Held, program: BpfObject | XdpPlane, from: number): void {
    for (const client of freshClients(EACH, from)) expect(sent(program, client, true)).toMatch(/^\d+ to/);
    held.packets += HOLDERS.length;
  }

  function expectWhole({ world, packets }: Held, when: string): void {
    expect(world.plane.status().adopted, when).toBe(true);
    expect(world.counted(), `${when}: every packet is counted`).toBe(packets);
    expect(["web", "quic", "translated"].reduce((sum, name) => sum + world.served(name), 0), when).toBe(packets);
    expect(readdirSync("/sys/fs/bpf/pointsman").filter((name) => name.startsWith(world.instance)), when).toEqual([world.instance]);
    expect(world.plane.plan(world.table(world.plane, "to")).map(({ action }) => action), when).toEqual([]);
  }

  it.each([["the earlier one", "this one"], ["this one", "the earlier one"]])("%s is followed by %s", async (first) => {
    const [before, then] = first === "this one" ? [current.release, earlier] : [earlier, current.release];
    const held = await serving(before);
    const { world } = held;
    const program = programOn(wire);
    const [id, counted] = [Uint8Array.of(1, 0, 0, 0), new Uint8Array(native().possibleCpus() * AnswerCount.size).fill(3)];
    world.plane.inside.maps.maps.answer_counts.update(id, counted, 0);
    await world.abandonAll();
    await world.open("to", then);
    expect(programOn(wire)).not.toBe(program);
    expect(world.plane.inside.maps.maps.answer_counts.lookup(id)).toEqual(counted);
    expectKept(held, world.plane, "taken over");
    await world.apply("to");
    expectKept(held, world.plane, "and applied");
    expectNew(held, world.plane, AFTER);
    expectWhole(held, "then");
  });

  it("gives new flows the backends that they had, and keeps what is denied and what is reached by prefixes", async () => {
    const held = await serving(earlier);
    const { world } = held;
    const other = (program: XdpPlane): string => {
      const many = { source: ipv4(198, 51, 100, 7), destination: ipv4(203, 0, 113, 70), protocol: TCP, destinationPort: 1234, flags: SYN };
      const denied = { ...many, source: ipv4(192, 0, 2, 1), destination: ipv4(203, 0, 113, 10), destinationPort: 81 };
      const frames = [...Array.from({ length: EACH }, (_, at) => ({ ...many, sourcePort: 500 + at })), { ...denied, sourcePort: 500 }];
      return frames.map((each) => program.testRun(frameOf(each), RUN)).map(({ action, output }) => `${action} ${Buffer.from(output!).toString("hex")}`).join();
    };
    const before = other(world.plane);
    await world.abandonAll();
    await world.open("to");
    expect(other(world.plane)).toBe(before);
    expect(world.plane.counters().verdicts.DROP_DENIED?.packets).toBe(2);
  });

  it("is taken over again and again, whenever a supervisor is killed on the way", async () => {
    const random = seededRandom(seed());
    const undisturbed = await serving(earlier);
    await undisturbed.world.abandonAll();
    const long = new Mortal(native(), env, Infinity);
    await undisturbed.world.run("restart", long);
    long.close();
    await undisturbed.world.remove();
    expect(long.effects).toEqual(expect.arrayContaining(["pin map-settings", "pin layout", "update link", "remove map-settings"]));
    try {
      // Whatever the seed: both planes are whole then, and it is the new one that counts.
      const swapped = long.effects.indexOf("update link") + 1;
      const points = chosen(long.effects.length, count("upgrade-points"), random).map((at) => [at, at % 2 === 0 ? null : earlier] as const);
      for (const [at, between] of [[swapped, null], [swapped, earlier], ...points] as const) {
        await dieAndRecover(at, `killed before ${long.effects[at]} (${at} of ${long.effects.length})`, between);
      }
    } catch (error) {
      if (error instanceof Error) error.message += `\nrepeat with: ${replayCommand("upgrade")}`;
      throw error;
    }
  }, 1_200_000);

  /** `between`: a release that is started after the death, before this one is again. */
  async function dieAndRecover(dieAt: number, when: string, between: Release | null): Promise<void> {
    const held = await serving(earlier);
    const { world } = held;
    const before = world.plane;
    const mortal = new Mortal(native(), env, dieAt);
    await expect(world.run("restart", mortal), when).rejects.toThrow();
    expect(mortal.isDead, when).toBe(true);
    const program = mortal.live ?? before;
    expectKept(held, program, when);
    expectNew(held, program, BETWEEN);
    const begun = freshClients(EACH, BETWEEN).map((client) => sent(program, client, false));
    held.packets += begun.length;
    await world.abandonAll();
    mortal.close();
    for (const release of between === null ? [current.release] : [between, current.release]) {
      await world.open("to", release);
      expectKept(held, world.plane, `${when}, and adopted`);
      expect(freshClients(EACH, BETWEEN).map((client) => sent(world.plane, client, false)), `${when}, those that began then`).toEqual(begun);
      held.packets += begun.length;
      await world.apply("to");
      expectNew(held, world.plane, release === undefined ? AFTER : AFTER + EACH);
      expectWhole(held, when);
      if (release !== current.release) await world.abandonAll();
    }
    await world.remove();
  }

  it("keeps flows that begin at the last moment before the swap", async () => {
    const world = new CrashWorld(GROWTH);
    worlds.push(world);
    await world.open("from", earlier);
    await world.apply("from");
    const before = world.plane;
    const opened: string[] = [];
    const watched: Native = { ...native(), XdpLink: { ...native().XdpLink, open: (path) => {
      const link = native().XdpLink.open(path);
      const update = link.update.bind(link);
      return Object.defineProperty(link, "update", { value: (object: BpfObject, program: string) => {
        opened.push(...HOLDERS.map((client) => sent(before, client, true)));
        update(object, program);
      } });
    } } };
    await world.open("to", { env, openXdpPlane: (options) => openXdpPlane({ ...options, native: watched }) });
    expect(opened).toHaveLength(HOLDERS.length);
    await world.apply("to");
    expect(HOLDERS.map((client) => target(sent(world.plane, client, false)))).toEqual(opened.map(target));
  });

  it("keeps what flows have left in maps of the old shape that had no names yet", async () => {
    const room = "{ services: 16, backends: 64, flows: 4096, natFlows: 4096 }";
    const world = new CrashWorld({ ...GROWTH, to: { ...GROWTH.to, limits: room } });
    worlds.push(world);
    const effects = async (mortal: Mortal): Promise<readonly string[]> => {
      await world.open("from", earlier);
      await world.apply("from");
      await world.abandonAll();
      await world.run("restart", mortal, earlier.openXdpPlane).catch((error: unknown) => { if (!mortal.isDead) throw error; });
      return mortal.effects;
    };
    const whole = new Mortal(native(), earlier.env, Infinity);
    const at = (await effects(whole)).findIndex((effect) => effect.startsWith("rename map-"));
    expect(at).toBeGreaterThan(0);
    whole.close();
    await world.remove();
    const mortal = new Mortal(native(), earlier.env, at);
    await effects(mortal);
    const opened = HOLDERS.map((client) => sent(mortal.live!, client, true));
    await world.abandonAll();
    mortal.close();
    await world.open("to");
    await world.apply("to");
    expect(HOLDERS.map((client) => target(sent(world.plane, client, false)))).toEqual(opened.map(target));
    expect(world.counted()).toBe(2 * HOLDERS.length);
  });

  it("stays as it is when the new program does not load, and is taken over when it does", async () => {
    const held = await serving(earlier);
    const { world } = held;
    const before = world.plane;
    const [program, names] = [programOn(wire), readdirSync(pinDirectory(world.instance))];
    // Of the earlier release, too, it stands there.
    const heartbeat = (): bigint => {
      const value = before.inside.maps.maps.settings.lookup(new Uint8Array(4))!;
      return new DataView(value.buffer, value.byteOffset).getBigUint64(Settings.offsets.heartbeatNs, true);
    };
    const beaten = heartbeat();
    let loads = 0;
    const failing: Native = { ...native(), BpfObject: { open: (path) => {
      const object = native().BpfObject.open(path);
      // The first one makes the maps.
      if ((loads += 1) === 2) Object.defineProperty(object, "load", { value: () => { throw new Error("it does not load"); } });
      return object;
    } } };
    await expect(openXdpPlane({ config: configOf(GROWTH.to, world.instance), env, native: failing })).rejects.toThrow("it does not load");
    expect(programOn(wire)).toBe(program);
    expect(readdirSync(pinDirectory(world.instance))).toEqual(names);
    expectKept(held, before, "refused");
    expect(heartbeat()).toBeGreaterThan(beaten);
    await world.abandonAll();
    await world.open("to");
    expectKept(held, world.plane, "taken over then");
    await world.apply("to");
    expectWhole(held, "then");
  });

  it.each([
    ["that does not say what its maps are made of", null, /does not say what/],
    ["in which a number means something else", [" FORWARDING_L2 1\n", " FORWARDING_L2 9\n"], /FORWARDING_L2 is 9 there, and FORWARDING_L2 is 1 here/],
    ["whose services are of another kind", ["map services 1\n key struct service_key", "map services 1\n key u32"], /map services has entries of other sizes/],
    ["that says something else", "", /belongs to others/],
  ] as const)("is refused, and goes on: one %s", async (_, change, reason) => {
    const held = await serving(undefined);
    const { world } = held;
    const pins = pinsOf(env, world.instance);
    const text = canonicalText(abiOfObject(packetProgram(native(), env).bytes));
    const other = change === null || change === "" ? text : text.replace(change[0], change[1]);
    env.files.remove(pins.layoutPath());
    if (change !== null) pinLayout(native(), pins, parseLayout(other));
    const { settings } = world.plane.inside.maps.maps;
    const value = settings.lookup(new Uint8Array(4))!;
    new DataView(value.buffer, value.byteOffset).setBigUint64(0, change === "" ? 7n : fingerprintOfText(`${other}${change === null ? "?" : ""}`), true);
    settings.update(new Uint8Array(4), value, 0);
    expect(pinnedFingerprint(native(), pins)).not.toBe(ABI_FINGERPRINT);
    const names = readdirSync(pins.directory);
    const opening = world.open("to");
    await expect(opening).rejects.toMatchObject({ code: "ABI_MISMATCH" });
    await expect(opening).rejects.toThrow(reason);
    expect(readdirSync(pins.directory)).toEqual(names);
    expect(env.files.exists(`${pins.directory}+1`)).toBe(false);
    expectKept(held, world.plane, "refused");
  });
});

function target(frame: string): string {
  return frame.slice(0, frame.indexOf(":") + 14);
}
