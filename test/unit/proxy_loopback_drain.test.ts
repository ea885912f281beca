// What the proxy plane does with connections whose backend has to give them up, on real loopback sockets.

import { beforeEach, describe, expect, it } from "vitest";
import type { Config } from "../../src/model/config.ts";
import type { Override, OverrideChange } from "../../src/model/table.ts";
import { config, ending, freePort, line, leaveNoSockets, ProxyWorld, service } from "../support/proxy_world.ts";

let world: ProxyWorld;
leaveNoSockets(() => world.close());
beforeEach(() => { world = new ProxyWorld(); });

const poll = { timeout: 10_000, interval: 5 };

function said(target: string, change: OverrideChange): Override {
  return { target, change, actor: "ann", reason: null, atMs: -60_000, expiresAtMs: null };
}

async function twoBackends(): Promise<{ wanted: Config; port: number }> {
  const backends = { a: await greeter("a"), b: await greeter("b") };
  const port = await freePort();
  const wanted = config([service({ port })], { web: backends });
  await world.apply(wanted);
  return { wanted, port };
}

/** Says its name, then repeats what it hears. */
function greeter(name: string): ReturnType<ProxyWorld["tcpBackend"]> {
  return world.tcpBackend(name, (socket) => {
    socket.write(`${name}\n`);
    socket.pipe(socket);
  });
}

describe("connections of a backend", () => {
  it.each([
    ["whose drain has taken as long as it may", { kind: "drain", timeoutMs: 60_000 }],
    ["in maintenance", { kind: "maintenance" }],
  ] as const)("%s are reset at both ends, and no others", async (_, change) => {
    const { wanted, port } = await twoBackends();
    const clients = new Map<string, ReturnType<ProxyWorld["client"]>[]>([["a", []], ["b", []]]);
    while ([...clients.values()].some((each) => each.length < 2)) {
      const client = world.client({ host: "127.0.0.1", port });
      clients.get(await line(client))!.push(client);
    }
    const drained = said("web/a", { kind: "drain", timeoutMs: 60_001 });
    await world.plane.apply(world.tables.make(wanted, [], {}, [drained]));
    const [kept] = clients.get("a")!;
    kept!.write("still here\n");
    expect(await line(kept!)).toBe("still here");
    expect(world.plane.counters().backendFlows.get("web/a")).toMatchObject({ count: clients.get("a")!.length, kind: "exact" });

    const ends = clients.get("a")!.map(ending);
    await world.plane.apply(world.tables.make(wanted, [], {}, [said("web/a", change)]));
    for (const end of ends) expect((await end).end).toBe("reset");
    await expect.poll(() => world.plane.counters().backendFlows.get("web/a")?.count, poll).toBe(0);
    expect(world.plane.counters().incidents?.get("drain_reset")).toBe(ends.length);
    const [other] = clients.get("b")!;
    other!.write("me too\n");
    expect(await line(other!)).toBe("me too");
    const fresh = world.client({ host: "127.0.0.1", port });
    expect(await line(fresh)).toBe("b");
  });

  it("that were about to be made go to another one", async () => {
    let connecting = 0;
    const { net } = world.env;
    const real = net.connect;
    net.connect = (options) => {
      const socket = real(options);
      // The first attempt never hears that it succeeded.
      if ((connecting += 1) === 1) socket.emit = () => false;
      return socket;
    };
    const { wanted, port } = await twoBackends();
    const client = world.client({ host: "127.0.0.1", port });
    await expect.poll(() => connecting, poll).toBe(1);
    const target = world.plane.counters();
    expect(target.flowTable.count).toBe(0);
    for (const name of ["a", "b"]) {
      await world.plane.apply(world.tables.make(wanted, [], {}, [said(`web/${name}`, { kind: "maintenance" })]));
      if (connecting > 1) break;
    }
    expect(["a", "b"]).toContain(await line(client));
    expect(connecting).toBe(2);
  });
});
