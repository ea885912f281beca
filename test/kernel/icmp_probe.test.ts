// Echo requests by the real ping, from a namespace that has a loopback and nothing else.

import { afterAll, beforeAll, expect, it } from "vitest";
import { createNamespace, deleteNamespace, runInSync } from "../../scripts/namespaces.ts";
import type { Outcome } from "../../src/health/judge.ts";
import { createProbe } from "../../src/health/probe.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { IcmpHealth } from "../../src/model/health_check.ts";
import { describeKernel } from "../support/kernel.ts";
import { env, nowhere, TIMING } from "../support/probe_world.ts";

describeKernel("echo requests", ["capabilities", "namespaces", "tool:ip", "tool:nsenter", "tool:ping"], () => {
  let namespace = "";
  beforeAll(() => {
    namespace = createNamespace("icmp");
    runInSync(namespace, "ip", ["address", "add", "198.18.0.1/32", "dev", "lo"]);
    runInSync(namespace, "ip", ["address", "add", "2001:db8::1/128", "dev", "lo", "nodad"]);
  });
  afterAll(() => { deleteNamespace(namespace); });

  function echo(host: string, health: Partial<IcmpHealth> = {}): Promise<Outcome> {
    const inside: typeof env = {
      ...env, exec: {
        ...env.exec, runGroup: (command, args, options) =>
          env.exec.runGroup("nsenter", [`--net=/run/netns/${namespace}`, command, ...args], options),
      },
    };
    const target = {
      name: "p/b", pool: "p", backend: "b", address: parseAddress(host)!, port: 0, through: [],
      health: { type: "icmp", ...TIMING, ...health } as const,
    };
    return createProbe(inside, nowhere)(target, new AbortController().signal);
  }

  it.each(["198.18.0.1", "2001:db8::1"])("%s echoes", async (host) => {
    expect(await echo(host)).toMatchObject({ ok: true, conclusive: true, reason: expect.stringMatching(/^echo after [\d.]+ ms$/) as string });
    expect(await echo(host, { source: parseAddress(host) })).toMatchObject({ ok: true });
  });

  it.each(["198.18.7.7", "2001:db8:7::7"])("there is no way to %s", async (host) => {
    expect(await echo(host)).toMatchObject({ ok: false, conclusive: true, reason: expect.stringContaining("unreachable") as string });
  });

  it("a source that is not here says nothing of the backend", async () => {
    expect(await echo("198.18.0.1", { source: parseAddress("198.18.3.3") })).toMatchObject({ ok: false, conclusive: false });
  });
});
