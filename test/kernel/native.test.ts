// The addon as a matrix: each method × {each state of its object, wrong size, wrong type, wrong
// receiver}. The tables have the order of src/dataplane/xdp/native.ts, and a type error if a method
// is missing; what the methods do is in native_maps.test.ts and native_links.test.ts.

import { mkdirSync, rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type {
  BpfMap, BpfObject, Native, NativeCode, NetlinkSocket, RingBuffer, XdpLink,
} from "../../src/dataplane/xdp/native.ts";
import {
  createNamespace, deleteOwn, ownPinDirectory, runInSync,
} from "../../scripts/namespaces.ts";
import { describeKernel } from "../support/kernel.ts";
import {
  ARRAY_OF_MAPS, MMAPABLE, NEEDS, ONE_RUN, RINGBUF, addon, createMap, inNamespace, loadFixture,
  openFixture, outcome, removeFiles, u32, u64,
} from "./fixtures/native_fixture.ts";

type Outcome = "ok" | NativeCode;
type Kind =
  | "bytes" | "bytes or null" | "number" | "string" | "boolean" | "map" | "object" | "options"
  | "callback";

interface Row<State extends string> {
  readonly kinds: readonly Kind[];
  /** Arguments with which the call goes well. */
  readonly args: () => unknown[];
  /** The arguments whose length must be exact. */
  readonly sized: readonly number[];
  /** "ok" where it is not said; "closed" answers CLOSED to everything but close(). */
  readonly states?: Partial<Record<State, Outcome>>;
  /** A subject of another kind than the usual one. */
  readonly subject?: () => object;
}
type Rows<T, State extends string> = { readonly [M in keyof T]: Row<State> };

/** Values of every kind of wrong; a kind refuses those that are not its own. */
const JUNK: readonly unknown[] = [
  undefined, null, 7, -1, 1.5, Number.NaN, Infinity, 2 ** 32, 1n, "", "text", "a\0b", true, {}, [],
  [1, 2], Symbol("x"), new ArrayBuffer(8), new Uint16Array(4), new Uint8ClampedArray(8),
  new DataView(new ArrayBuffer(8)), new Uint8Array(8), () => undefined,
];
const accepts: Readonly<Record<Kind, (value: unknown) => boolean>> = {
  "bytes": (value) => value instanceof Uint8Array,
  "bytes or null": (value) => value === null || value instanceof Uint8Array,
  "number": (value) => Number.isInteger(value) && Number(value) >= 0 && Number(value) < 2 ** 32,
  "string": (value) => typeof value === "string" && value !== "" && !value.includes("\0"),
  "boolean": (value) => typeof value === "boolean",
  "map": () => false,
  "object": () => false,
  // Any object will do at first sight; its properties are looked at below.
  "options": () => false,
  "callback": (value) => value === null || typeof value === "function",
};

const pins = ownPinDirectory("matrix");
let pinNumber = 0;
const freshPin = () => `${pins}/${(pinNumber += 1)}`;
const PACKET = new Uint8Array(64);

const mapRows: Rows<BpfMap, "open" | "closed" | "closed with its object"> = {
  info: { kinds: [], args: () => [], sized: [] },
  lookup: { kinds: ["bytes"], args: () => [u64(1)], sized: [0] },
  update: { kinds: ["bytes", "bytes", "number"], args: () => [u64(1), u64(2), 0], sized: [0, 1] },
  delete: { kinds: ["bytes"], args: () => [u64(1)], sized: [0] },
  nextKey: { kinds: ["bytes or null"], args: () => [u64(1)], sized: [0] },
  lookupBatch: {
    kinds: ["bytes or null", "number"], args: () => [new Uint8Array(8), 64], sized: [0],
  },
  updateBatch: {
    kinds: ["bytes", "bytes", "number"], args: () => [u64(1, 2), u64(3, 4), 2], sized: [0, 1],
  },
  deleteBatch: { kinds: ["bytes", "number"], args: () => [u64(1, 2), 2], sized: [0] },
  updateInner: {
    kinds: ["bytes", "map"], args: () => [u32(0), createMap({})], sized: [0],
    subject: () => createMap({ type: ARRAY_OF_MAPS, innerMap: createMap({}) }),
  },
  mmap: { kinds: [], args: () => [], sized: [], subject: () => createMap({ flags: MMAPABLE }) },
  pin: { kinds: ["string"], args: () => [freshPin()], sized: [] },
  freeze: { kinds: [], args: () => [], sized: [] },
  close: { kinds: [], args: () => [], sized: [] },
};

const before = { loaded: "BAD_STATE", failed: "BAD_STATE" } as const;
const after = { opened: "BAD_STATE", failed: "BAD_STATE" } as const;
const objectRows: Rows<BpfObject, "opened" | "loaded" | "failed" | "closed"> = {
  mapNames: { kinds: [], args: () => [], sized: [] },
  programNames: { kinds: [], args: () => [], sized: [] },
  section: { kinds: ["string"], args: () => [".rodata"], sized: [], states: before },
  setSection: {
    kinds: ["string", "bytes"], args: () => [".rodata", new Uint8Array(16)], sized: [1],
    states: before,
  },
  setMaxEntries: {
    kinds: ["string", "number"], args: () => ["flows", 5000], sized: [], states: before,
  },
  reuseMap: {
    kinds: ["string", "map"], sized: [], states: before,
    args: () => ["counters", createMap({ name: "counters", valueSize: 8, maxEntries: 4 })],
  },
  setAutoload: {
    kinds: ["string", "boolean"], args: () => ["grow", false], sized: [], states: before,
  },
  load: { kinds: [], args: () => [], sized: [], states: before },
  map: { kinds: ["string"], args: () => ["flows"], sized: [], states: after },
  programInfo: { kinds: ["string"], args: () => ["pass"], sized: [], states: after },
  testRun: {
    kinds: ["string", "bytes", "options"], args: () => ["pass", PACKET, ONE_RUN], sized: [],
    states: after,
  },
  pinProgram: {
    kinds: ["string", "string"], args: () => ["pass", freshPin()], sized: [], states: after,
  },
  close: { kinds: [], args: () => [], sized: [] },
};

const linkRows: Rows<XdpLink, "attached" | "detached" | "closed"> = {
  info: { kinds: [], args: () => [], sized: [] },
  // The kernel answers ENOLINK for a link without an interface.
  update: {
    kinds: ["object", "string"], args: () => [loadFixture(), "bounce"], sized: [],
    states: { detached: "SYSTEM" },
  },
  pin: { kinds: ["string"], args: () => [freshPin()], sized: [] },
  detach: { kinds: [], args: () => [], sized: [] },
  close: { kinds: [], args: () => [], sized: [] },
};

const ringBufferRows: Rows<RingBuffer, "open" | "closed"> = {
  consume: { kinds: ["number"], args: () => [4], sized: [] },
  close: { kinds: [], args: () => [], sized: [] },
};

/** RTM_GETLINK with NLM_F_REQUEST | NLM_F_DUMP, and a struct ifinfomsg of zeros. */
function linkDump(): Uint8Array {
  const message = new DataView(new ArrayBuffer(32));
  message.setUint32(0, 32, true);
  message.setUint16(4, 18, true);
  message.setUint16(6, 0x301, true);
  message.setUint32(8, 1, true);
  return new Uint8Array(message.buffer);
}

const netlinkRows: Rows<NetlinkSocket, "open" | "closed"> = {
  send: { kinds: ["bytes"], args: () => [linkDump()], sized: [] },
  receive: { kinds: [], args: () => [], sized: [] },
  onReadable: { kinds: ["callback"], args: () => [() => undefined], sized: [] },
  close: { kinds: [], args: () => [], sized: [] },
};

const STATICS = {
  BpfMap: ["create", "open"], BpfObject: ["open"], XdpLink: ["attach", "open"],
  RingBuffer: ["open"], NetlinkSocket: ["open"],
} as const satisfies { readonly [C in keyof Native]?: readonly (keyof Native[C])[] };

type ClassName = keyof typeof STATICS;
const ROWS: Readonly<Record<ClassName, Readonly<Record<string, Row<string>>>>> = {
  BpfMap: mapRows, BpfObject: objectRows, XdpLink: linkRows, RingBuffer: ringBufferRows,
  NetlinkSocket: netlinkRows,
};

interface Closable { close(): void }
type Subjects = Readonly<Record<string, () => Closable>>;
let namespace = "";

function closed<T extends Closable>(make: () => T): () => T {
  return () => {
    const made = make();
    made.close();
    return made;
  };
}

/** A fixture whose load() the verifier refused. */
function failedObject(): BpfObject {
  const object = openFixture("native_rejected");
  outcome(() => { object.load(); });
  return object;
}

const links: XdpLink[] = [];

/** Attached to an interface that had nothing attached. */
function attachedLink(): XdpLink {
  for (const link of links.splice(0)) if (outcome(() => link.info()) === "ok") link.detach();
  const link = inNamespace(namespace, () => {
    return addon().XdpLink.attach(loadFixture(), "pass", addon().interfaceIndex("one"), 2);
  });
  links.push(link);
  return link;
}

function detachedLink(): XdpLink {
  const link = attachedLink();
  link.detach();
  return link;
}

function mapClosedWithObject(): BpfMap {
  const object = loadFixture();
  const map = object.map("flows");
  object.close();
  return map;
}

const openMap = () => loadFixture().map("flows");
const openRingBuffer = () => addon().RingBuffer.open(
  createMap({ type: RINGBUF, keySize: 0, valueSize: 0, maxEntries: 4096 }));
const openSocket = () => addon().NetlinkSocket.open(0, 0);
const SUBJECTS: Readonly<Record<ClassName, Subjects>> = {
  BpfMap: {
    "open": openMap, "closed": closed(openMap), "closed with its object": mapClosedWithObject,
  },
  BpfObject: {
    opened: openFixture, loaded: loadFixture, failed: failedObject, closed: closed(loadFixture),
  },
  XdpLink: { attached: attachedLink, detached: detachedLink, closed: closed(attachedLink) },
  RingBuffer: { open: openRingBuffer, closed: closed(openRingBuffer) },
  NetlinkSocket: { open: openSocket, closed: closed(openSocket) },
};

function invoke(subject: object, method: string, args: readonly unknown[]): unknown {
  return (subject as Record<string, (...args: readonly unknown[]) => unknown>)[method]?.(...args);
}

/** A subject on which the method goes well. */
function goodSubject(name: ClassName, row: Row<string>): object {
  const states = Object.entries(SUBJECTS[name]);
  const state = states.find(([state]) => (row.states?.[state] ?? "ok") === "ok");
  return row.subject?.() ?? (state?.[1] ?? expect.unreachable())();
}

describeKernel("the addon, method by state", NEEDS, () => {
  beforeAll(() => {
    namespace = createNamespace("native");
    runInSync(namespace, "ip", ["link", "add", "one", "type", "veth", "peer", "name", "two"]);
    mkdirSync(pins);
  });
  afterAll(() => {
    rmSync(pins, { recursive: true, force: true });
    deleteOwn();
    removeFiles();
  });

  const names = Object.keys(ROWS) as ClassName[];
  it.each(names)("%s has the declared methods in the declared order", (name) => {
    const exported = addon()[name] as unknown as { prototype: object };
    const methods = Object.getOwnPropertyNames(exported.prototype);
    expect(methods.filter((method) => method !== "constructor")).toEqual(Object.keys(ROWS[name]));
    const statics = Object.keys(exported).concat(Object.getOwnPropertyNames(exported));
    const own = ["length", "name", "arguments", "caller", "prototype"];
    expect([...new Set(statics)].filter((property) => !own.includes(property)))
      .toEqual(STATICS[name]);
  });

  it.each(names)("%s is not constructed by new", (name) => {
    const exported = addon()[name] as unknown as new () => object;
    expect(outcome(() => new exported())).toBe("BAD_ARGUMENT");
    expect(outcome(() => new (class extends exported {})())).toBe("BAD_ARGUMENT");
  });

  for (const name of names) {
    for (const [method, row] of Object.entries(ROWS[name])) {
      describe(`${name}.${method}`, () => { testMethod(name, method, row); });
    }
  }
});

function testMethod(name: ClassName, method: string, row: Row<string>): void {
  for (const [state, make] of Object.entries(SUBJECTS[name])) {
    const isClosed = state.startsWith("closed");
    const wanted = isClosed && method !== "close" ? "CLOSED" : row.states?.[state] ?? "ok";
    it(`${state}: ${wanted}`, () => {
      const subject = isClosed || row.subject === undefined ? make() : row.subject();
      expect(outcome(() => invoke(subject, method, row.args()))).toBe(wanted);
      // A closed object says so whatever it is asked.
      if (wanted === "CLOSED") expect(outcome(() => invoke(subject, method, []))).toBe("CLOSED");
      if (method === "close") expect(outcome(() => invoke(subject, method, []))).toBe("ok");
    });
  }

  if (row.sized.length > 0) it("wrong size: BAD_SIZE", () => { testSizes(name, method, row); });
  if (row.kinds.length > 0) it("wrong type: BAD_ARGUMENT", () => { testTypes(name, method, row); });

  it("wrong receiver: an exception and no more", () => {
    const call = (goodSubject(name, row) as Record<string, unknown>)[method] as () => unknown;
    const another = name === "NetlinkSocket" ? openRingBuffer() : openSocket();
    for (const other of [{}, 7, null, another, Object.create(goodSubject(name, row)) as object]) {
      expect(() => { Reflect.apply(call, other, row.args()); }).toThrow("Illegal invocation");
    }
  });
}

function testSizes(name: ClassName, method: string, row: Row<string>): void {
  const subject = goodSubject(name, row);
  for (const index of row.sized) {
    const right = (row.args()[index] as Uint8Array).length;
    for (const length of [0, right - 1, right + 1, right * 2]) {
      const args = row.args().with(index, new Uint8Array(length));
      expect(outcome(() => invoke(subject, method, args)), `argument ${index} of ${length} bytes`)
        .toBe("BAD_SIZE");
    }
  }
}

function testTypes(name: ClassName, method: string, row: Row<string>): void {
  const subject = goodSubject(name, row);
  for (const [index, kind] of row.kinds.entries()) {
    for (const junk of JUNK.filter((value) => !accepts[kind](value))) {
      const args = row.args().with(index, junk);
      const what = `argument ${index}: ${typeof junk} ${Object.prototype.toString.call(junk)}`;
      expect(outcome(() => invoke(subject, method, args)), what).toBe("BAD_ARGUMENT");
    }
    expect(outcome(() => invoke(subject, method, row.args().slice(0, index)))).toBe("BAD_ARGUMENT");
  }
}
