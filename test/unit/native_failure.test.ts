// What the kernel refuses, as failures that name the size that was not enough and the key to raise.

import { expect, it } from "vitest";
import { POINTSMAN_MAPS } from "../../src/dataplane/xdp/abi.gen.ts";
import { failureFrom } from "../../src/dataplane/xdp/native_failure.ts";
import { mapSizes } from "../../src/dataplane/xdp/program.ts";
import { Failure } from "../../src/errors.ts";

function full(map: string): Error {
  return Object.assign(new Error("no room"), { code: "FULL", errno: 7, operation: "update", object: map, log: null });
}

it("a full map says how large it is and which limit to raise", () => {
  const failure = failureFrom(full("flows"), (map) => (map === "flows" ? 1024 : 0));
  expect(failure).toBeInstanceOf(Failure);
  expect(failure).toMatchObject({ code: "MAP_FULL", details: { map: "flows", entriesMax: 1024 } });
  expect((failure as Failure).message).toBe("the map flows is full with 1024 entries: raise limits.flows");
});

it("every map whose size a config sets has its own remedy", () => {
  const sized = Object.keys(mapSizes({ services: 1, destinations: 1, flows: 1, fragments: 16, policies: 1,
    groupEntries: 1, quicConfigs: 8, quicServers: 8, natFlows: 8, affinities: 8 }));
  expect(sized.every((map) => (POINTSMAN_MAPS as readonly string[]).includes(map))).toBe(true);
  for (const map of sized) {
    expect((failureFrom(full(map)) as Failure).message, map)
      .toMatch(/limits\.(services|backends|flows|fragments|natFlows|affinities)$|prefixes|quicLb|serverIds/);
  }
});
