// Outlier detection by what the kernel's maps tell of translated flows: a backend whose answers get lost is ejected
// though nobody probes it, and comes back.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { forgetVips, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { curlShares, waitFor } from "../../scripts/lab_services.ts";
import { runInSync } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";
import type { ServedLab } from "./fixtures/lab_fixture.ts";

const HEALTH = "{ type: none, outlier: { consecutive: 3, ejection: 2s, ejectionMax: 2s } }";
const CONNECTIONS = 60;

describe.each([4, 6] as const)("to IPv%i", (family) => describeKernel("outliers among translated flows", [...KERNEL, "tool:curl"], () => {
  const vip = family === 4 ? VIP4 : VIP6;
  let served: ServedLab;
  beforeAll(async () => {
    served = await serveLab({ label: "outlier-", forwarding: "fullnat", backendFamily: family, backends: 3, health: HEALTH });
    for (const { namespace } of served.lab.backends) forgetVips(namespace);
  });
  afterAll(async () => { await served?.close(); });

  const stateOf = async (name: string): Promise<string | undefined> =>
    (await served.instance.api.backends()).find((each) => each.name === name)?.state;
  /** What the backend answers goes nowhere. */
  const lose = (verb: "add" | "del"): void => {
    const { balancer, backends } = served.lab;
    const to = family === 4 ? `${balancer.ipv4}/32` : `${balancer.ipv6}/128`;
    runInSync(backends[1]!.namespace, "ip", [`-${family}`, "route", verb, "blackhole", to]);
  };

  it("has a backend ejected whose answers get lost, and no other", async () => {
    expect([...(await curlShares(served.lab, vip, CONNECTIONS)).keys()]).toEqual(["web-1", "web-2", "web-3"]);
    lose("add");
    await waitFor("web-2 to be ejected", 60_000, async () => {
      await curlShares(served.lab, vip, CONNECTIONS);
      return (await served.instance.api.recentEvents(0)).some(({ subject, fields }) =>
        subject === "web/web-2" && fields["to"] === "ejected");
    });
    const told = (await served.instance.api.recentEvents(0)).filter(({ fields }) => fields["to"] === "ejected");
    expect(new Set(told.map(({ subject }) => subject))).toEqual(new Set(["web/web-2"]));
    expect(told[0]?.message).toMatch(/flows in a row failed: no answer to a SYN; ejected for 2 s$/);
  });

  it("has it back when its time is over, and keeps it where it answers again", async () => {
    lose("del");
    await waitFor("web-2 to be back", 60_000, async () => (await stateOf("web/web-2")) === "active");
    await waitFor("web-2 to answer", 60_000, async () => (await curlShares(served.lab, vip, CONNECTIONS)).has("web-2"));
    expect(await stateOf("web/web-2")).toBe("active");
  });
}));
