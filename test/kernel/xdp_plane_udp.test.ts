// UDP flows in the XDP plane, whose packets come in one direction only: they stick to a backend that is alive,
// leave one that is gone with the next datagram, and stay where they went.

import { expect, it } from "vitest";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { trackedServices, type Flow, type TrackedService } from "./fixtures/tracked_service.ts";

const FLOWS = 80;

describeKernel("UDP flows of a backend", KERNEL, () => {
  const serving = trackedServices("udp");

  /** Where each flow's next datagram goes. */
  const next = (service: TrackedService, flows: readonly Flow[]): Flow[] =>
    flows.map(({ number }) => ({ number, home: service.send(number) ?? "nobody" }));
  const of = (flows: readonly Flow[], home: string): Flow[] => flows.filter((flow) => flow.home === home);

  it.each(["minimal", "full"] as const)("that is gone move with the next datagram and stay, with %s", async (tracking) => {
    const service = await serving({ protocol: "udp", tracking });
    const flows = service.connect(FLOWS);
    const ofB = of(flows, "b");
    expect(ofB.length).toBeGreaterThan(0);

    await service.change({ drained: ["b"] });
    expect(service.moved(flows)).toEqual([]);
    await service.change({ down: ["b"], drained: [] });
    const moved = next(service, ofB);
    expect(of(moved, "b")).toEqual([]);
    expect(of(moved, "nobody")).toEqual([]);
    expect(service.moved(moved)).toEqual([]);
    expect(service.moved(flows.filter(({ home }) => home !== "b"))).toEqual([]);

    // Back again, it gets none of those that found another one.
    await service.change({ down: [] });
    expect(service.moved(moved)).toEqual([]);
    await service.change({ backends: ["a", "c", "d"] });
    expect(service.moved(moved)).toEqual([]);
  });

  it("move also where nobody remembers them, and only those", async () => {
    const service = await serving({ protocol: "udp", tracking: "none" });
    const flows = service.connect(FLOWS);
    await service.change({ down: ["b"] });
    expect(next(service, of(flows, "b")).filter(({ home }) => home === "b" || home === "nobody")).toEqual([]);
    expect(service.moved(flows.filter(({ home }) => home !== "b"))).toEqual([]);
  });
});
