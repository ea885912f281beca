// The feature table where an answer depends on who uses a key: those of a pool are said for the services
// that use the pool, by their ways of forwarding.

import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/parse.ts";
import { dependsOnForwarding, supportOf } from "../../src/model/features.ts";

function complaints(mode: string, services: string): string[] {
  const text = `version: 1
dataplane: { mode: ${mode}, interfaces: [eth0] }
pools:
  web: { health: { type: tcp, via: tunnel }, backends: [{ name: a, address: 10.0.0.1 }] }
services: [${services}]
`;
  const parsed = parseConfig("test.yaml", new TextEncoder().encode(text));
  const found = "config" in parsed ? parsed.warnings : parsed.problems;
  return found.filter(({ path }) => path.endsWith("health.via")).map(({ severity, reason }) => `${severity}: ${reason}`);
}

describe("the feature table", () => {
  it("has probes through tunnels honoured by the XDP plane for what carries the virtual address", () => {
    expect(dependsOnForwarding("pools[].health.via", "xdp")).toBe(true);
    for (const way of ["l2", "ipip", "gue", "gre"] as const) {
      expect(supportOf("pools[].health.via", "xdp", way)).toBe("honoured");
    }
    for (const way of ["nat", "fullnat"] as const) {
      expect(supportOf("pools[].health.via", "xdp", way)).toHaveProperty("refused");
      expect(supportOf("pools[].health.via", "proxy", way)).toHaveProperty("ignored");
    }
  });

  const ipip = "{ name: one, address: 203.0.113.1, port: 80, forwarding: ipip, pool: web }";
  const fullnat = "{ name: two, address: 203.0.113.2, port: 80, forwarding: fullnat, pool: web }";

  it("makes check warn where the plane ignores the key, and refuse where it cannot do it", () => {
    expect(complaints("xdp", ipip)).toEqual([]);
    expect(complaints("proxy", ipip)).toEqual([expect.stringMatching(/^warning: ignored by the proxy plane/)]);
    expect(complaints("xdp", `${ipip}, ${fullnat}`)).toEqual([expect.stringMatching(/^error: service "two" uses fullnat/)]);
    // The proxy plane ignores the key for both, and refuses neither.
    expect(complaints("proxy", `${ipip}, ${fullnat}`)).toEqual([expect.stringMatching(/^warning: ignored by/)]);
  });
});
