// The addon's functions that make objects or belong to none: each argument and each property ×
// every kind of wrong. The methods of the objects have a matrix of their own in native.test.ts.

import { afterAll, expect, it } from "vitest";
import type { Native } from "../../src/dataplane/xdp/native.ts";
import { describeKernel } from "../support/kernel.ts";
import {
  ARRAY, ARRAY_OF_MAPS, HASH, NEEDS, RINGBUF, addon, createMap, loadFixture, openFixture, outcome,
  removeFiles, thrown,
} from "./fixtures/native_fixture.ts";

const NOT_STRINGS: readonly unknown[] = [undefined, null, 7, "", "a\0b", {}, [], new Uint8Array(1)];
const NOT_NUMBERS: readonly unknown[] = [
  undefined, null, "1", -1, 0.5, Number.NaN, 2 ** 32, 1n, {}, [1],
];
const NOT_OBJECTS: readonly unknown[] = [undefined, null, 7, "text", true];
/** Objects too, but of no class of the addon. */
const NOT_OURS: readonly unknown[] = [...NOT_OBJECTS, {}, [], () => undefined];

interface Row {
  readonly call: (...args: unknown[]) => unknown;
  readonly args: () => unknown[];
  /** For each argument, what it refuses. */
  readonly refuses: readonly (readonly unknown[])[];
  /** What the good arguments lead to; "ok" when it is not said. */
  readonly outcome?: string;
}

/** A function of the addon, callable with anything. */
function untyped(owner: object, name: string): Row["call"] {
  return (owner as Record<string, Row["call"]>)[name] ?? expect.unreachable(name);
}

const ringBuffer = () => createMap({ type: RINGBUF, keySize: 0, valueSize: 0, maxEntries: 4096 });
const SPEC = {
  name: "made", type: ARRAY, keySize: 4, valueSize: 4, maxEntries: 1, flags: 0, innerMap: null,
};

/** Filled in when the suite runs: the addon may not be there before. */
function rows(native: Native): Readonly<Record<string, Row>> {
  return {
    "BpfMap.create": {
      call: untyped(native.BpfMap, "create"), args: () => [SPEC],
      refuses: [[...NOT_OBJECTS, {}, []]],
    },
    "BpfMap.open": {
      call: untyped(native.BpfMap, "open"), args: () => ["/nowhere"], refuses: [NOT_STRINGS],
      outcome: "NOT_FOUND",
    },
    "BpfObject.open": {
      call: untyped(native.BpfObject, "open"), args: () => ["/nowhere"], refuses: [NOT_STRINGS],
      outcome: "NOT_FOUND",
    },
    "XdpLink.attach": {
      call: untyped(native.XdpLink, "attach"), args: () => [loadFixture(), "pass", 999_999, 0],
      refuses: [[...NOT_OURS, createMap({})], NOT_STRINGS, NOT_NUMBERS, [...NOT_NUMBERS, 1, 3, 8]],
      outcome: "NOT_FOUND",
    },
    "XdpLink.open": {
      call: untyped(native.XdpLink, "open"), args: () => ["/nowhere"], refuses: [NOT_STRINGS],
      outcome: "NOT_FOUND",
    },
    "RingBuffer.open": {
      call: untyped(native.RingBuffer, "open"), args: () => [ringBuffer()],
      refuses: [[...NOT_OURS, createMap({}), loadFixture()]],
    },
    "NetlinkSocket.open": {
      call: untyped(native.NetlinkSocket, "open"), args: () => [0, 0],
      refuses: [NOT_NUMBERS, NOT_NUMBERS],
    },
    "gracePeriod": { call: untyped(native, "gracePeriod"), args: () => [], refuses: [] },
    "possibleCpus": { call: untyped(native, "possibleCpus"), args: () => [], refuses: [] },
    "enterNetworkNamespace": {
      call: untyped(native, "enterNetworkNamespace"), args: () => ["/proc/thread-self/ns/net"],
      refuses: [NOT_STRINGS],
    },
    "mountBpffs": {
      call: untyped(native, "mountBpffs"), args: () => ["/sys/fs/bpf"], refuses: [NOT_STRINGS],
    },
    "interfaceIndex": {
      call: untyped(native, "interfaceIndex"), args: () => ["lo"], refuses: [NOT_STRINGS],
    },
    "openMarkedSocket": {
      // An address that this host has not: nothing to close.
      call: untyped(native, "openMarkedSocket"), args: () => [Uint8Array.of(192, 0, 2, 1), 7],
      refuses: [[undefined, null, 7, "127.0.0.1", [127, 0, 0, 1], new Uint16Array(4)], NOT_NUMBERS], outcome: "SYSTEM",
    },
    "sendPackets": {
      call: untyped(native, "sendPackets"), args: () => [new Uint8Array(0)],
      refuses: [[undefined, null, 7, "packet", [0x45], new Uint16Array(20), Uint8Array.of(0x45, 0, 0, 40), new Uint8Array(40)]],
    },
  };
}

describeKernel("the addon's functions", NEEDS, () => {
  afterAll(removeFiles);

  it("each takes what is right and refuses what is not", () => {
    for (const [name, row] of Object.entries(rows(addon()))) {
      expect(outcome(() => row.call(...row.args())), name).toBe(row.outcome ?? "ok");
      for (const [index, wrong] of row.refuses.entries()) {
        for (const junk of wrong) {
          const said = outcome(() => row.call(...row.args().with(index, junk)));
          expect(said, `${name}, argument ${index}: ${typeof junk}`).toBe("BAD_ARGUMENT");
        }
        expect(outcome(() => row.call(...row.args().slice(0, index))), name).toBe("BAD_ARGUMENT");
      }
    }
  });

  it("every function of the addon is in the table", () => {
    const native = addon();
    const functions = Object.entries(native).flatMap(([name, value]) => {
      if (typeof value !== "function") return [];
      const statics = Object.keys(rows(native)).filter((row) => row.startsWith(`${name}.`));
      return statics.length > 0 ? statics : [name];
    });
    expect(functions).toEqual(Object.keys(rows(native)));
  });

  it.each(Object.keys(SPEC))("a map is not created without a right %s", (property) => {
    const create = untyped(addon().BpfMap, "create");
    const wrong = {
      name: [...NOT_STRINGS, "sixteen_letters_"], innerMap: [undefined, 7, {}, createMap({})],
    }[property] ?? NOT_NUMBERS;
    for (const junk of wrong) {
      expect(outcome(() => create({ ...SPEC, [property]: junk }))).toBe("BAD_ARGUMENT");
    }
  });

  it("a map of maps needs a prototype that is open", () => {
    expect(outcome(() => createMap({ type: ARRAY_OF_MAPS }))).toBe("BAD_ARGUMENT");
    const innerMap = createMap({});
    innerMap.close();
    expect(outcome(() => createMap({ type: ARRAY_OF_MAPS, innerMap }))).toBe("CLOSED");
    const closing = {
      ...SPEC, type: ARRAY_OF_MAPS, innerMap: createMap({}),
      get flags(): number { this.innerMap.close(); return 0; },
    };
    expect(outcome(() => addon().BpfMap.create(closing))).toBe("CLOSED");
  });

  it("what the kernel refuses is named with its errno", () => {
    expect(thrown(() => createMap({ name: "no blanks" }))).toMatchObject({
      code: "SYSTEM", errno: 22, operation: "BpfMap.create", object: "no blanks", log: null,
    });
    expect(thrown(() => createMap({ type: HASH, keySize: 0 })).errno).toBe(22);
    expect(thrown(() => addon().NetlinkSocket.open(9999, 0)).code).toBe("SYSTEM");
  });

  it("an object that is closed or not loaded attaches nothing", () => {
    const attach = (object: ReturnType<typeof openFixture>) => {
      return outcome(() => addon().XdpLink.attach(object, "pass", 999_999, 0));
    };
    const closed = loadFixture();
    closed.close();
    expect([attach(closed), attach(openFixture())]).toEqual(["CLOSED", "BAD_STATE"]);
    const map = ringBuffer();
    map.close();
    expect(outcome(() => addon().RingBuffer.open(map))).toBe("CLOSED");
  });
});
