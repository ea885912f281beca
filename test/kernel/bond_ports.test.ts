// The ports of a bond come and go while the plane runs: each gets the program, and loses it. The kernels that
// tests run on need have no bonding driver, so who is a port is made up here; the interfaces are real.

import { afterAll, beforeAll, expect, it } from "vitest";
import { attachAgain } from "../../src/dataplane/xdp/attachments.ts";
import { openCore, swapProgram, type Core, type CoreContext } from "../../src/dataplane/xdp/core.ts";
import { findInterfaces } from "../../src/dataplane/xdp/attach.ts";
import { removeInstance } from "../../src/dataplane/xdp/detach.ts";
import { openRequests, type Requests } from "../../src/dataplane/xdp/netlink/requests.ts";
import type { Link } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { packetProgram } from "../../src/dataplane/xdp/open_xdp.ts";
import { pinsOf, type Pins } from "../../src/dataplane/xdp/pins.ts";
import { deleteOwn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import {
  config, createWire, env, freshInstance, native, pinsOfInstance, programOn, type Wire,
} from "./fixtures/plane_fixture.ts";

const BOND = 1000;

describeKernel("the ports of a bond", KERNEL, () => {
  let wire: Wire;
  let requests: Requests;
  let pins: Pins;
  let core: Core;
  let context: CoreContext;
  const instance = freshInstance();
  /** Whoever is named here is a port. */
  let ports: readonly string[] = ["veth0"];

  function links(): Link[] {
    const real = requests.links();
    const bond: Link = { ...real.find(({ name }) => name === "veth0")!, ifindex: BOND, name: "bond0", kind: "bond", master: 0 };
    return [bond, ...real.map((link) => ports.includes(link.name) ? { ...link, master: BOND } : link)];
  }

  function follow(): void {
    attachAgain(context, core, (name) => links().find((link) => link.name === name) ?? null);
  }

  function addVeth8(): void {
    wire.ip("link", "add", "veth8", "type", "veth", "peer", "name", "veth9", "netns", wire.peer);
    wire.ip("link", "set", "veth8", "up");
    wire.peerIp("link", "set", "veth9", "up");
  }

  const running = (): (boolean)[] => ["veth0", "veth8"].map((name) => programOn(wire, name) !== null);

  beforeAll(async () => {
    wire = createWire("bond");
    addVeth8();
    requests = openRequests(native());
    native().mountBpffs("/sys/fs/bpf");
    pins = pinsOf(env, instance);
    context = {
      native: native(), env, config: config({ instance }), source: packetProgram(native(), env), pins, requests,
      interfaces: () => findInterfaces(["bond0"], links()), addressIfindex: () => BOND, obstacle: () => null,
    };
    core = await openCore(context);
  });
  afterAll(() => {
    removeInstance(native(), { env, instance }, requests);
    for (const { link } of core.attachments) link.close();
    core.program.maps.closeRings();
    core.program.object.close();
    requests.close();
    deleteOwn();
  });

  it("that are there run the program from the start", () => {
    expect(core.attachments.map(({ name }) => name)).toEqual(["veth0"]);
    expect(running()).toEqual([true, false]);
  });

  it("that come run it too, and again when nothing changes", () => {
    ports = ["veth0", "veth8"];
    follow();
    follow();
    expect(core.attachments.map(({ name }) => name)).toEqual(["veth0", "veth8"]);
    expect(running()).toEqual([true, true]);
    expect(pinsOfInstance(instance).filter((name) => name.startsWith("link"))).toHaveLength(2);
  });

  it("that go run it no longer", () => {
    ports = ["veth8"];
    follow();
    expect(core.attachments.map(({ name }) => name)).toEqual(["veth8"]);
    expect(running()).toEqual([false, true]);
    expect(pinsOfInstance(instance).filter((name) => name.startsWith("link"))).toHaveLength(1);
  });

  it("that all go at once keep it: the bond may be in the middle of a change", () => {
    ports = [];
    follow();
    expect(running()).toEqual([false, true]);
  });

  it("of which one refuses do not lose the others", () => {
    ports = ["veth0", "veth8"];
    const refusing = { ...context, obstacle: () => ({ found: "a test", remedy: "none" }) };
    attachAgain(refusing, core, (name) => links().find((link) => link.name === name) ?? null);
    expect(running()).toEqual([false, true]);
    follow();
    expect(running()).toEqual([true, true]);
  });

  it("that were made again and refuse do not lose the others, and are tried again", () => {
    const made = (): Link => links().find(({ name }) => name === "veth8")!;
    const before = made().ifindex;
    wire.ip("link", "del", "veth8");
    addVeth8();
    expect(made().ifindex).not.toBe(before);
    const refusing: CoreContext = {
      ...context, obstacle: ({ name }) => name === "veth8" ? { found: "a test", remedy: "none" } : null,
    };
    for (let round = 0; round < 2; round += 1) {
      attachAgain(refusing, core, (name) => links().find((link) => link.name === name) ?? null);
      expect(core.attachments.map(({ name }) => name)).toEqual(["veth0"]);
      expect(running()).toEqual([true, false]);
    }
    expect([...core.refused.keys()]).toEqual(["veth8"]);
    follow();
    expect(running()).toEqual([true, true]);
    expect(core.refused.size).toBe(0);
  });

  it("that are none any more, or gone, keep no other program from the rest", async () => {
    const grow = async (): Promise<void> => {
      const { features, capacities } = core.state;
      await swapProgram(context, core, { kind: "load-program", features: new Set([...features, "featureNat"]), capacities });
    };
    const before = programOn(wire, "veth0");
    ports = [];
    await grow();
    const swapped = programOn(wire, "veth0");
    expect(swapped).not.toBe(before);
    wire.ip("link", "del", "veth8");
    await grow();
    expect(programOn(wire, "veth0")).not.toBe(swapped);
  });
});
