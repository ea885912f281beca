// The addon's links and netlink sockets, on veth pairs in a namespace of their own. Knows just
// enough of netlink to ask for a dump and to count the answers; the codec has tests of its own.

import { mkdirSync, rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BpfObject, NetlinkSocket, XdpLink } from "../../src/dataplane/xdp/native.ts";
import {
  createNamespace, deleteOwn, ownPinDirectory, runInSync,
} from "../../scripts/namespaces.ts";
import { describeKernel } from "../support/kernel.ts";
import {
  NEEDS, addon, inNamespace, loadFixture, outcome, removeFiles, thrown, until,
} from "./fixtures/native_fixture.ts";

const pins = ownPinDirectory("links");
const GENERIC = 2;
const NATIVE = 4;
/** RTMGRP_LINK. */
const LINKS = 1;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;

let namespace = "";
let ifindex = 0;

function ip(...args: string[]): string {
  return runInSync(namespace, "ip", args).stdout;
}

describeKernel("the addon's links and sockets", NEEDS, () => {
  beforeAll(() => {
    namespace = createNamespace("native-links");
    ip("link", "add", "one", "type", "veth", "peer", "name", "two");
    ifindex = inNamespace(namespace, () => addon().interfaceIndex("one"));
    mkdirSync(pins);
  });
  afterAll(() => {
    rmSync(pins, { recursive: true, force: true });
    deleteOwn();
    removeFiles();
  });

  describe("links", testLinks);
  describe("netlink", testNetlink);
  describe("netlink events", testNetlinkEvents);
  describe("the machine", testMachine);
});

function attach(object: BpfObject, program: string, mode = GENERIC): XdpLink {
  return inNamespace(namespace, () => addon().XdpLink.attach(object, program, ifindex, mode));
}

/** The id of the program on the interface as ip(8) sees it, or null. */
function programOnInterface(): { id: number; mode: string } | null {
  const links: unknown = JSON.parse(ip("-j", "link", "show", "one"));
  const [link] = links as { xdp?: { mode: number; prog: { id: number } } }[];
  if (link?.xdp === undefined) return null;
  return { id: link.xdp.prog.id, mode: link.xdp.mode === 2 ? "generic" : "native" };
}

function testLinks(): void {
  const modes: [number, string][] = [[GENERIC, "generic"], [NATIVE, "native"], [0, "native"]];
  it.each(modes)("mode %i attaches as %s", (mode, name) => {
    const object = loadFixture();
    const link = attach(object, "pass", mode);
    const { id } = object.programInfo("pass");
    expect(link.info()).toMatchObject({ ifindex, programId: id });
    expect(programOnInterface()).toEqual({ id, mode: name });
    link.close();
    expect(programOnInterface()).toBeNull();
  });

  it("a second program is BUSY, an interface that is not there NOT_FOUND", () => {
    const object = loadFixture();
    const link = attach(object, "pass");
    expect(thrown(() => attach(object, "bounce"))).toMatchObject({
      code: "BUSY", errno: 16, operation: "XdpLink.attach", object: `ifindex ${ifindex}`,
    });
    link.close();
    expect(outcome(() => addon().XdpLink.attach(object, "pass", 999_999, 0))).toBe("NOT_FOUND");
    expect(outcome(() => addon().XdpLink.attach(object, "pass", ifindex, 1))).toBe("BAD_ARGUMENT");
    expect(outcome(() => addon().XdpLink.attach(object, "none", ifindex, 0))).toBe("NOT_FOUND");
  });

  it("the program is replaced in place, and outlives its object", () => {
    const [first, second] = [loadFixture(), loadFixture()];
    const link = attach(first, "pass");
    const { id } = second.programInfo("bounce");
    link.update(second, "bounce");
    first.close();
    second.close();
    expect(link.info().programId).toBe(id);
    expect(programOnInterface()?.id).toBe(id);
    expect(outcome(() => { link.update(second, "bounce"); })).toBe("CLOSED");
    link.close();
  });

  it("a pinned link stays when it is closed, is opened by its path, and ends by detach", () => {
    const path = `${pins}/link`;
    const object = loadFixture();
    const link = attach(object, "pass");
    link.pin(path);
    expect(outcome(() => { link.pin(path); })).toBe("EXISTS");
    link.close();
    expect(programOnInterface()).not.toBeNull();
    const opened = addon().XdpLink.open(path);
    expect(opened.info()).toMatchObject({ ifindex, programId: object.programInfo("pass").id });
    opened.update(object, "bounce");
    opened.detach();
    expect(programOnInterface()).toBeNull();
    expect(opened.info().ifindex).toBe(0);
    opened.close();
    rmSync(path);
    expect(outcome(() => addon().XdpLink.open(path))).toBe("NOT_FOUND");
  });

  it("a link whose interface is gone says so", () => {
    ip("link", "add", "three", "type", "veth", "peer", "name", "four");
    const object = loadFixture();
    const link = inNamespace(namespace, () => {
      return addon().XdpLink.attach(object, "pass", addon().interfaceIndex("three"), NATIVE);
    });
    ip("link", "delete", "three");
    expect(link.info().ifindex).toBe(0);
    // ENOLINK: the supervisor attaches anew.
    expect(thrown(() => { link.update(object, "bounce"); }))
      .toMatchObject({ code: "SYSTEM", errno: 67 });
    link.close();
  });
}

function dumpRequest(sequence: number): Uint8Array {
  const message = new DataView(new ArrayBuffer(32));
  message.setUint32(0, 32, true);
  message.setUint16(4, RTM_GETLINK, true);
  // NLM_F_REQUEST | NLM_F_DUMP
  message.setUint16(6, 0x301, true);
  message.setUint32(8, sequence, true);
  return new Uint8Array(message.buffer);
}

/** The types of the messages in these datagrams, in order. */
function messageTypes(datagrams: readonly Uint8Array[]): number[] {
  const types: number[] = [];
  for (const datagram of datagrams) {
    const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
    for (let offset = 0; offset + 16 <= datagram.length;) {
      types.push(view.getUint16(offset + 4, true));
      offset += (view.getUint32(offset, true) + 3) & ~3;
    }
  }
  return types;
}

function openIn(groups: number): NetlinkSocket {
  return inNamespace(namespace, () => addon().NetlinkSocket.open(0, groups));
}

function receiveDump(socket: NetlinkSocket): number[] {
  const types: number[] = [];
  while (!types.includes(NLMSG_DONE)) types.push(...messageTypes(socket.receive()));
  return types;
}

function testNetlink(): void {
  it("a dump of links has one message for each, whole", () => {
    const socket = openIn(0);
    expect(socket.receive()).toEqual([]);
    socket.send(dumpRequest(1));
    const wanted = (JSON.parse(ip("-j", "link")) as unknown[]).length;
    const types = receiveDump(socket);
    expect(types.filter((type) => type === RTM_NEWLINK)).toHaveLength(wanted);
    expect(types.at(-1)).toBe(NLMSG_DONE);
    socket.close();
  });

  it("a refused request is answered, and a message without a header is not sent", () => {
    const socket = openIn(0);
    const request = dumpRequest(1);
    new DataView(request.buffer).setUint16(4, 0x7fff, true);
    socket.send(request);
    expect(messageTypes(socket.receive())).toEqual([NLMSG_ERROR]);
    expect(outcome(() => { socket.send(new Uint8Array(15)); })).toBe("BAD_SIZE");
    socket.close();
  });
}

function testNetlinkEvents(): void {
  it("a subscription calls back when a link appears, until it is stopped", async () => {
    const socket = openIn(LINKS);
    const types: number[] = [];
    let calls = 0;
    socket.onReadable(() => {
      calls += 1;
      types.push(...messageTypes(socket.receive()));
    });
    ip("link", "add", "five", "type", "veth", "peer", "name", "six");
    const announced = () => types.filter((type) => type === RTM_NEWLINK).length;
    await until("both ends are announced", () => announced() >= 2);
    expect(calls).toBeGreaterThan(0);
    socket.onReadable(null);
    const before = calls;
    ip("link", "delete", "five");
    // A watcher that still ran would be called in one of these turns.
    for (let turns = 0; turns < 20; turns += 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(calls).toBe(before);
    expect(socket.receive().length).toBeGreaterThan(0);
    let again = 0;
    socket.onReadable(() => { again += 1; socket.close(); });
    ip("link", "add", "five", "type", "veth", "peer", "name", "six");
    await until("the new callback ran", () => again > 0);
    ip("link", "delete", "five");
    expect(again).toBe(1);
  });

  it("an overrun is told once, then goes on with what is new", async () => {
    const socket = openIn(LINKS);
    const told: string[] = [];
    let received = 0;
    overrun();
    socket.onReadable(() => {
      try {
        received += socket.receive().length;
        told.push("received");
      } catch (error) {
        told.push(`errno ${(error as { errno: number }).errno}`);
      }
    });
    await until("the overrun was told", () => told.includes("errno 105"));
    await until("what came before it was received", () => told.includes("received"));
    const soFar = received;
    ip("link", "set", "one", "mtu", "1400");
    // libuv stops watching after an error; the addon starts again.
    await until("a new event is received", () => received > soFar);
    expect(told.filter((each) => each === "errno 105")).toHaveLength(1);
    expect(told[0]).toBe("errno 105");
    socket.close();
  });
}

/** More events than a receive buffer of 1 MiB holds. */
function overrun(): void {
  const lines = Array.from({ length: 2000 }, (_, index) => {
    return `link set dev two mtu ${1300 + (index % 100)}`;
  });
  runInSync(namespace, "ip", ["-batch", "-"], { input: `${lines.join("\n")}\n` });
}

function testMachine(): void {
  it("an interface has an index in its namespace only", () => {
    expect(ifindex).toBeGreaterThan(0);
    expect(addon().interfaceIndex("one")).toBe(0);
    expect(addon().interfaceIndex("lo")).toBe(1);
  });

  it("a namespace that is not there, or a path that is none, is an error", () => {
    expect(outcome(() => { addon().enterNetworkNamespace("/run/netns/none"); })).toBe("NOT_FOUND");
    expect(outcome(() => { addon().enterNetworkNamespace("/etc/passwd"); })).toBe("SYSTEM");
  });

  it("bpffs is mounted where it is not yet, and left alone where it is", () => {
    const directory = `/run/${namespace}-bpffs`;
    const mounted = () => runInSync(null, "stat", ["-f", "-c", "%T", directory]).stdout.trim();
    mkdirSync(directory);
    try {
      addon().mountBpffs(directory);
      expect(mounted()).toBe("bpf_fs");
      addon().mountBpffs(directory);
      runInSync(null, "umount", [directory]);
      expect(mounted()).not.toBe("bpf_fs");
    } finally {
      rmSync(directory, { recursive: true });
    }
    expect(outcome(() => { addon().mountBpffs("/nowhere"); })).toBe("NOT_FOUND");
  });

  it("the machine's CPUs and libbpf's version are numbers", () => {
    expect(addon().possibleCpus()).toBeGreaterThan(0);
    expect(addon().libbpfVersion).toMatch(/^v?\d+\.\d+/);
  });
}
