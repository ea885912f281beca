// How many flows there are where not all are remembered: the plane looks at those that the rule says, of flows that
// are more than a SYN, and the estimate is what follows. Packets are test runs.

import { expect, it } from "vitest";
import { isInSample, SAMPLE_ONE_IN } from "../../src/model/flow_sample.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { until } from "./fixtures/plane_fixture.ts";
import { trackedServices, type TrackedService } from "./fixtures/tracked_service.ts";

const FLOWS = 2048;

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, number) => number);
}

/** What is to be told of the first `count` flows. */
function expected(service: TrackedService, count: number): number {
  return SAMPLE_ONE_IN * numbers(count).filter((number) => isInSample(service.service(), service.tuple(number))).length;
}

async function told(service: TrackedService, count: number): Promise<void> {
  const { plane } = service;
  await until(`${count} flows`, () => {
    const held = plane.counters().serviceFlows.get("web");
    return held?.kind === "estimated" && held.count === count;
  });
}

describeKernel("flows that are looked at", KERNEL, () => {
  const serving = trackedServices("samples");

  it.each([
    ["minimal", "tcp", "5-tuple"], ["none", "tcp", "source-ip"], ["minimal", "udp", "5-tuple"],
  ] as const)("tell how many there are, with %s, %s and hash %s", async (tracking, protocol, hash) => {
    const service = await serving({ tracking, protocol, hash });
    if (protocol === "tcp") {
      for (const number of numbers(FLOWS)) service.send(number, true);
      await told(service, 0);
    }
    for (const number of numbers(FLOWS)) service.send(number);
    const estimate = expected(service, FLOWS);
    expect(Math.abs(estimate - FLOWS)).toBeLessThan(5 * Math.sqrt(SAMPLE_ONE_IN * FLOWS));
    await told(service, estimate);
    const { backendFlows, drainFlows, flowTable } = service.plane.counters();
    expect([...backendFlows.values()].reduce((sum, { count }) => sum + count, 0)).toBe(estimate);
    expect(new Set([...backendFlows.values()].map(({ kind }) => kind))).toEqual(new Set(["estimated"]));
    // Nobody is remembered, and a drain goes by what is.
    expect(flowTable.count).toBe(0);
    expect(new Set([...drainFlows.values()].map(({ kind, count }) => `${kind} ${count}`)))
      .toEqual(new Set([tracking === "minimal" ? "estimated 0" : "unknown 0"]));
    // Once more is not more, and another supervisor finds them.
    for (const number of numbers(FLOWS)) service.send(number);
    await service.crash();
    await service.change({});
    await told(service, estimate);
  });

  it("are others with another seed, and nobody asks them where all flows are remembered", async () => {
    const service = await serving({ tracking: "minimal" });
    for (const number of numbers(FLOWS)) service.send(number);
    await told(service, expected(service, FLOWS));
    const before = service.service();
    await service.change({ seed: 99n });
    const both = numbers(FLOWS).filter((number) =>
      isInSample(before, service.tuple(number)) && isInSample(service.service(), service.tuple(number))).length;
    await told(service, both * SAMPLE_ONE_IN);
    for (const number of numbers(FLOWS)) service.send(number);
    await told(service, expected(service, FLOWS));
    await service.change({ tracking: "full" });
    await until("a count", () => service.plane.counters().serviceFlows.get("web")?.kind === "tracked");
  });
});
