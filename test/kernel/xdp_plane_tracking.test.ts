// `tracking: minimal` in a real XDP plane, with tables as the supervisor makes them: whatever changes, and
// wherever an apply is broken off, no flow is moved whose backend lives. Packets are test runs.

import { expect, it } from "vitest";
import type { Native } from "../../src/dataplane/xdp/native.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { native } from "./fixtures/plane_fixture.ts";
import { trackedServices, WINDOW_MS, type Flow, type TrackedService, type Wanted } from "./fixtures/tracked_service.ts";

const FLOWS = 120;

function homes(flows: readonly Flow[]): Set<string> {
  return new Set(flows.map(({ home }) => home));
}

function of(flows: readonly Flow[], home: string): Flow[] {
  return flows.filter((flow) => flow.home === home);
}

describeKernel("minimal tracking", KERNEL, () => {
  const serving = trackedServices("tracking");

  it.each(["tcp", "udp"] as const)("keeps %s flows through a drain: in the window, after it and after the walk", async (protocol) => {
    const service = await serving({ protocol });
    const flows = service.connect(FLOWS);
    expect(homes(flows)).toEqual(new Set(["a", "b", "c", "d"]));
    expect([service.marks(), service.remembered().size]).toEqual([[], 0]);

    await service.change({ drained: ["b"] });
    expect(service.isChanging()).toBe(true);
    expect(service.marks().length).toBeGreaterThan(0);
    expect(service.moved(flows)).toEqual([]);
    // TCP tells new flows from old ones. Of UDP, what nobody remembers is as if it had been there before.
    const during = service.connect(FLOWS);
    expect(homes(during).has("b")).toBe(protocol === "udp");
    if (protocol === "tcp") expect(service.remembered().size).toBe(of(flows, "b").length + rememberedOf(service, during));

    service.nowMs += WINDOW_MS / 2;
    await service.change({});
    expect(service.moved([...flows, ...during])).toEqual([]);

    await service.closeWindows();
    expect(service.isChanging()).toBe(false);
    const after = service.connect(FLOWS);
    expect(homes(after).has("b")).toBe(false);
    expect(service.moved([...flows, ...during, ...after])).toEqual([]);

    const marked = service.marks();
    await service.swept();
    await service.change({});
    // Those with flows of b are exceptions, and those whose flows are all the owner's are settled.
    expect(service.marks().length).toBeGreaterThan(0);
    expect(service.marks().length).toBeLessThan(marked.length);
    expect(service.moved([...flows, ...during, ...after])).toEqual([]);
  });

  it("settles every slot when the flows that were elsewhere have ended", async () => {
    const service = await serving();
    const flows = service.connect(FLOWS);
    await service.change({ drained: ["b"] });
    expect(service.moved(flows)).toEqual([]);
    await service.closeWindows();
    expect(service.marks().length).toBeGreaterThan(0);
    const { flows: table } = service.plane.inside.maps.maps;
    for (let key = table.nextKey(null); key !== null; key = table.nextKey(null)) table.delete(key);
    await service.swept();
    await service.change({});
    expect(service.marks()).toEqual([]);
    expect(service.moved(flows.filter(({ home }) => home !== "b"))).toEqual([]);
  });

  it("knows what a plane has shown that was to take over, and was broken off half-way", async () => {
    const service = await serving();
    const flows = service.connect(FLOWS);
    let hasShown = false;
    await expect(service.replaceInVain({ backends: ["a", "b", "c"], drained: ["b"], flowsMax: 131_072 }, ({ kind }) => {
      if (hasShown && kind !== "activate-version") throw new Error("broken off");
      hasShown ||= kind === "activate-version";
    })).rejects.toThrow("broken off");
    await service.plane.reclaim();
    expect(service.isChanging()).toBe(true);
    // In slots of b and d some begin elsewhere before everything is as it was.
    const during = service.connect(FLOWS);
    expect(homes(during)).toEqual(new Set(["a", "c"]));
    await service.change({});
    expect(service.moved([...flows, ...during])).toEqual([]);
    await service.quiet();
    expect(service.moved([...flows, ...during])).toEqual([]);
  });

  it("remembers what was remembered while a larger table was being filled", async () => {
    const service = await serving({ flowsMax: 4096 });
    const flows = service.connect(FLOWS);
    await service.change({ drained: ["b"] });
    expect(service.moved(flows)).toEqual([]);
    await service.change({ down: ["a"] });
    service.wanted = { ...service.wanted, flowsMax: 16_384 };
    const old = service.plane;
    let during: Flow[] = [];
    let before = new Map<number, number>();
    await service.open(beforeSwap(() => {
      // The copy is there already. Some begin, and some of those that went to a go elsewhere.
      before = service.remembered();
      during = service.connect(FLOWS);
    }));
    await old.close({ detach: false, drainMs: 0 });
    const begun = during.filter(({ number }) => !before.has(number) && service.isMarked({ number, home: "" }));
    expect(begun.length).toBeGreaterThan(10);
    expect(service.plane.inside.maps.maps.flows.info().maxEntries).toBe(16_384);
    await service.resolved();
    for (const [number, id] of before) expect(service.remembered().get(number)).toBe(id);
    for (const { number } of begun) expect(service.remembered().has(number)).toBe(true);
    await service.change({ down: [], drained: [] });
    expect(service.moved([...during, ...of(flows, "b"), ...of(flows, "c")])).toEqual([]);
  });

  it("takes a slot for settled only by a walk that began after its window", async () => {
    const service = await serving();
    await service.change({ drained: ["b"] });
    await service.closeWindows();
    await service.swept();
    // This one saw no flow in any slot, and it is heard late.
    service.sweeps = service.plane.sweeps();
    await service.change({ drained: [] });
    const flows = service.connect(FLOWS);
    await service.change({ drained: ["c"] });
    expect(service.moved(flows)).toEqual([]);
    await service.closeWindows();
    await service.change({});
    expect(service.moved(flows)).toEqual([]);
    expect(service.marks().length).toBeGreaterThan(0);
  });

  it("keeps whose the flows were when the window opened, whoever owned the slot in between", async () => {
    const service = await serving();
    const flows = service.connect(FLOWS);
    await service.change({ drained: ["b"] });
    const second = service.connect(FLOWS);
    await service.change({ drained: ["b", "c"] });
    const third = service.connect(FLOWS);
    await service.change({ drained: ["b", "c", "d"] });
    expect(service.moved([...third, ...second, ...flows])).toEqual([]);
    await service.change({ drained: ["a"] });
    expect(service.moved([...third, ...second, ...flows])).toEqual([]);
    await service.quiet();
    expect(service.moved([...third, ...second, ...flows])).toEqual([]);
  });

  it("is adopted with its windows after a crash, and the next change knows the owners from before", async () => {
    const service = await serving();
    const flows = service.connect(FLOWS);
    await service.change({ drained: ["b"] });
    const during = service.connect(FLOWS);
    // Nobody has sent a packet since the window opened: nothing but the slots knows whose the flows are.
    await service.crash();
    expect(service.isChanging()).toBe(true);
    const { states } = service.plane.ledger().slots.get(service.key)!;
    expect([...states.exceptional!.keys()].filter((slot) => states.exceptional![slot] === 1)).toEqual(service.marks());
    expect(service.moved(of(flows, "a"))).toEqual([]);
    await service.change({ drained: ["b", "c"] });
    await service.crash();
    await service.change({ drained: ["c", "d"] });
    expect(service.moved([...flows, ...during])).toEqual([]);
    await service.crash();
    await service.closeWindows();
    expect(service.isChanging()).toBe(false);
    expect(service.moved([...flows, ...during])).toEqual([]);
    await service.swept();
    await service.change({});
    await service.crash();
    expect(service.marks().length).toBeGreaterThan(0);
    expect(service.moved([...flows, ...during])).toEqual([]);
  });

  const CHANGES: readonly (readonly [string, Partial<Wanted>])[] = [
    ["one more backend", { backends: ["a", "b", "c", "d"], weights: { a: 50 } }],
    ["a drain", { drained: ["b"] }],
    ["another drain", { drained: ["c"] }],
    ["another seed", { seed: 7n }],
    ["a larger ring", { ringSize: 509, drained: [] }],
    ["clients instead of connections", { hash: "source-ip" }],
    ["the ring of before", { ringSize: 251, drained: ["d"], hash: "5-tuple" }],
    ["everything", { tracking: "full", seed: 8n, ringSize: 127, drained: ["a"], weights: {} }],
  ];

  it.each([
    ["retried", false], ["given up and adopted", true],
  ] as const)("moves nothing when an apply is broken off before any of its steps, and %s", async (_, crashes) => {
    const service = await serving({ backends: ["a", "b", "c"] });
    let flows = service.connect(FLOWS);
    const more = (): void => { flows = [...flows.slice(-FLOWS * 2), ...service.connect(4)]; };
    let [broken, isBroken] = [0, true];
    for (const [position, [what, change]] of CHANGES.entries()) {
      const before = service.wanted;
      for (let at = 0; at === 0 || isBroken; at += 1) {
        isBroken = false;
        service.onStep = (_step, step) => {
          if (step !== at) return;
          isBroken = true;
          throw new Error("broken off");
        };
        await service.change(change).catch((error: unknown) => { expect(String(error)).toContain("broken off"); });
        service.onStep = () => undefined;
        broken += isBroken ? 1 : 0;
        const when = `${what}, broken off before step ${at}`;
        // Some of them wait for what comes then.
        expect(service.moved(flows.filter(({ number }) => number % 2 === 0)), when).toEqual([]);
        more();
        if (crashes) await service.crash();
        if (at % 2 === 0) await service.change({});
        await service.change(before);
        flows = flows.filter(({ home }) => before.backends.includes(home));
        expect(service.moved(flows), `${when}, and then nothing of it`).toEqual([]);
        more();
        service.nowMs += WINDOW_MS / 20;
      }
      await service.change(change);
      expect(service.moved(flows), `after ${what}`).toEqual([]);
      if (position % 2 === 0) continue;
      await service.quiet();
      expect(service.moved(flows), `long after ${what}`).toEqual([]);
    }
    expect(broken).toBeGreaterThan(CHANGES.length * 3);
  }, 120_000);

  it.each(["tcp", "udp"] as const)("moves no %s flow when seed, ring size, hash and tracking change", async (protocol) => {
    const service = await serving({ protocol });
    let flows = service.connect(FLOWS);
    const changes: readonly Partial<Wanted>[] = [
      { seed: 7n }, { ringSize: 509 }, { hash: "source-ip" }, { tracking: "full" }, { drained: ["b"] },
      { tracking: "minimal" }, { seed: 8n, ringSize: 251 }, { hash: "5-tuple", drained: ["a"] },
      { tracking: "full", seed: 9n }, { drained: [] }, { weights: { a: 300 } }, { tracking: "minimal", weights: {} },
    ];
    for (const pause of [0, WINDOW_MS / 3, null]) {
      for (const change of changes) {
        await service.change(change);
        expect(service.moved(flows), JSON.stringify(Object.keys(change))).toEqual([]);
        flows = [...flows.slice(-FLOWS * 2), ...service.connect(10)];
        if (pause === null) await service.quiet();
        else service.nowMs += pause;
        expect(service.moved(flows)).toEqual([]);
      }
    }
    await service.quiet();
    // Without exceptions left, the ring alone knows all of them.
    await service.change({ drained: [], tracking: "none" });
    const last = service.connect(FLOWS);
    expect(service.moved(last)).toEqual([]);
    await service.change({ tracking: "minimal" });
    await service.change({ drained: ["d"] });
    expect(service.moved(last)).toEqual([]);
  }, 60_000);

  it("sends TCP flows back to a backend that returns, and lets datagrams stay where they went", async () => {
    for (const protocol of ["tcp", "udp"] as const) {
      const service = await serving({ protocol });
      const flows = service.connect(FLOWS);
      await service.change({ drained: ["b"] });
      const [ofB, others] = [of(flows, "b"), flows.filter(({ home }) => home !== "b")];
      const [told, silent] = [ofB.slice(0, ofB.length / 2), ofB.slice(ofB.length / 2)];
      expect(service.moved(told)).toEqual([]);
      await service.change({ down: ["b"] });
      const elsewhere = ofB.map(({ number }) => ({ number, home: service.send(number)! }));
      expect(homes(elsewhere).has("b")).toBe(false);
      expect(service.moved([...others, ...elsewhere])).toEqual([]);
      await service.change({ down: [] });
      const expected = protocol === "tcp" ? [...told, ...silent] : elsewhere;
      expect(service.moved([...others, ...expected])).toEqual([]);
      await service.change({ drained: [] });
      expect(service.moved([...others, ...expected])).toEqual([]);
      await service.quiet();
      expect(service.moved([...others, ...expected])).toEqual([]);
      for (const plane of service.planes) await plane.close({ detach: true, drainMs: 0 });
    }
  });

  it("remembers no more than its share under a flood, and flows in unchanged slots do not notice", async () => {
    const flowsMax = 256;
    const service = await serving({ flowsMax });
    const flows = service.connect(FLOWS);
    await service.change({ weights: { b: 10 } });
    const [unchanged, changing] = [flows.filter((flow) => !service.isMarked(flow)), flows.filter((flow) => service.isMarked(flow))];
    const told = changing.slice(0, 20);
    expect(service.moved(told)).toEqual([]);
    expect(service.remembered().size).toBe(20);
    // New ones and packets out of nowhere, more of each than there is room for.
    const opened = service.connect(2000);
    for (let number = 0; number < 2000; number += 1) service.send(20_000 + number);
    expect(service.outcome("unremembered")).toBeGreaterThan(100);
    const { size } = service.remembered();
    // Half of the table at once, and what time gave meanwhile.
    expect(size).toBeGreaterThan(flowsMax / 8);
    expect(size).toBeLessThanOrEqual(flowsMax / 2 + 10);
    expect(service.moved(told)).toEqual([]);
    expect(service.moved(flows)).toEqual([]);
    // Without a place, a flow goes where its packets will go as long as the window is open.
    expect(service.moved(opened)).toEqual([]);
    await service.closeWindows();
    expect(service.moved([...told, ...unchanged])).toEqual([]);
  });
});

/** The addon, with something that happens just before a link gets another program. */
function beforeSwap(happen: () => void): Native {
  const { XdpLink } = native();
  return {
    ...native(),
    XdpLink: {
      attach: XdpLink.attach.bind(XdpLink),
      open: (path) => {
        const link = XdpLink.open(path);
        return {
          info: () => link.info(),
          update: (object, program) => {
            happen();
            link.update(object, program);
          },
          pin: (at) => { link.pin(at); },
          detach: () => { link.detach(); },
          close: () => { link.close(); },
        };
      },
    },
  };
}

/** How many of these are remembered. */
function rememberedOf(service: TrackedService, flows: readonly Flow[]): number {
  const remembered = service.remembered();
  return flows.filter(({ number }) => remembered.has(number)).length;
}
