// The supervisor and its configs: reload, plan, revisions, rollback, and planes that take over from each
// other. Planes are simulated and time is fake.

import { describe, expect, it } from "vitest";
import { Failure } from "../../src/errors.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { failureOf, FILE, request, slotsOf, World } from "../support/world.ts";

const WEB: ConfigSketch = { probes: true, pools: { web: ["a", "b", "c"] }, services: [{ name: "web" }] };
const TWO: ConfigSketch = { ...WEB, services: [{ name: "web" }, { name: "more" }] };

describe("configs", () => {
  it("reload takes the file; an invalid one is refused, reported, and changes nothing", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    world.write({ ...TWO, invalid: "no such key" });
    const table = supervisor.table();
    const failure = await failureOf(supervisor.reload("ann"));
    expect(failure.code).toBe("CONFIG_INVALID");
    expect(supervisor.table()).toBe(table);
    expect(supervisor.status()).toMatchObject({
      ready: true, config: { revision: 1, fileDiffers: true, problems: [{ reason: "no such key" }] },
    });
    world.write(TWO);
    const result = await supervisor.reload("ann");
    expect(result).toMatchObject({ revision: 2, changed: true });
    expect(supervisor.status().config).toMatchObject({ fileDiffers: false, problems: [] });
    expect(supervisor.totals()).toMatchObject({ reloads: 2, reloadsRefused: 1 });
  });

  it("reload of the same file makes no revision; a file that is gone is said to be", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    expect(await supervisor.reload("ann")).toMatchObject({ revision: 1, changed: false, steps: 0 });
    world.env.files.remove(FILE);
    expect((await failureOf(supervisor.reload("ann"))).code).toBe("FILE_UNREADABLE");
    expect(supervisor.status().config.fileDiffers).toBe(true);
  });

  it("plan says what would move and does nothing", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const { applies } = world.plane;
    const plan = await supervisor.plan(request({ ...TWO, pools: { web: ["a", "b"] } }));
    expect(plan.changed).toBe(true);
    expect(plan.services.map((each) => [each.service, each.change])).toEqual([["web", "changed"], ["more", "added"]]);
    const web = plan.services[0]!;
    const lost = slotsOf(world, "web/c");
    expect(web.slotsMoved).toBeGreaterThanOrEqual(lost);
    expect(web.share).toBeCloseTo(web.slotsMoved / 251);
    expect(world.plane.applies).toBe(applies);
    expect(await supervisor.plan(request(WEB))).toMatchObject({ changed: false, steps: [] });
  });

  it("keeps ten revisions before the current one and goes back to any of them", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    for (let weight = 1; weight <= 12; weight++) {
      await supervisor.apply(request({ ...WEB, pools: { web: [{ name: "a", weight }] } }));
    }
    const revisions = supervisor.revisions();
    expect(revisions.map((each) => each.revision)).toEqual([13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3]);
    expect(revisions.filter((each) => each.current).map((each) => each.revision)).toEqual([13]);
    await supervisor.rollback(null, "ann");
    expect(supervisor.config().pools[0]?.backends[0]?.weight).toBe(11);
    expect(supervisor.revisions()[0]).toMatchObject({ revision: 14, origin: "rollback to 12", actor: "ann" });
    await supervisor.override({
      target: "web/a", change: { kind: "drain" }, actor: "ann", reason: null, expiresInMs: null,
    });
    await supervisor.rollback(5, "ann");
    // What operators have said of backends is not part of a config.
    expect(supervisor.overrides().map(({ target }) => target)).toEqual(["web/a"]);
    // It had no flows.
    expect(supervisor.status().backends.map(({ state }) => state)).toEqual(["drained"]);
    expect(supervisor.config().pools[0]?.backends[0]?.weight).toBe(4);
    expect((await failureOf(supervisor.rollback(1, "ann"))).code).toBe("UNKNOWN_REVISION");
  });

  it("refuses a config of another instance, and more backends than the limits allow", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    expect((await failureOf(supervisor.apply(request({ ...WEB, instance: "other" })))).code).toBe("CONFIG_INVALID");
    const failure = await failureOf(supervisor.apply(request({ ...WEB, limits: { backends: 2 } })));
    expect([failure.code, failure.message]).toEqual(["MAP_FULL",
      "3 destinations are configured, and there is room for 2: raise limits.backends"]);
    expect(supervisor.status().ready).toBe(true);
  });
});

describe("planes", () => {
  it("another kind of plane takes over: opened and filled before the old one leaves", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const old = world.plane;
    const proxy: ConfigSketch = { ...WEB, mode: "proxy" };
    expect((await supervisor.plan(request(proxy))).replacesPlane).toBe("dataplane.mode becomes proxy");
    await supervisor.apply(request(proxy));
    expect(supervisor.status().mode).toBe("proxy");
    expect(world.plane.applied).toHaveLength(1);
    expect(old.closed).toEqual({ detach: true });
    expect(supervisor.status()).toMatchObject({ ready: true, config: { revision: 2 } });
  });

  it("auto takes the proxy for what XDP refuses to forward, and XDP again when it can", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const nat: ConfigSketch = { ...WEB, services: [{ name: "web", forwarding: "fullnat", address: "2001:db8::9" }] };
    expect((await supervisor.plan(request(nat))).replacesPlane).toBe("XDP cannot serve web (fullnat)");
    world.noXdp = "nat";
    await supervisor.apply(request(nat));
    expect(supervisor.status()).toMatchObject({ mode: "proxy", ready: true });
    expect((await supervisor.plan(request({ ...nat, interfaces: ["eth1"] }))).replacesPlane).toBeNull();
    world.noXdp = null;
    expect((await supervisor.plan(request(WEB))).replacesPlane).toBe("XDP can serve every service now");
    await supervisor.apply(request(WEB));
    expect(supervisor.status()).toMatchObject({ mode: "xdp", ready: true });
  });

  it("probes via: tunnel go through the plane that serves, and not through a proxy", async () => {
    const world = new World();
    const through: ConfigSketch = { ...WEB, probes: "tunnel", services: [{ name: "web", forwarding: "ipip" }] };
    const supervisor = await world.start(through);
    const first = world.plane;
    await world.pass(2000);
    expect([...first.probed].sort()).toEqual(["a", "b", "c"].map((name) => `web web/${name} 203.0.113.10 80`));
    expect(first.probesEnded).toBe(0);

    // Other services, other places; then none.
    await supervisor.apply(request({ ...through, services: [{ name: "other", forwarding: "ipip" }] }));
    first.probed.clear();
    await world.pass(2000);
    expect([...first.probed].every((place) => place.startsWith("other "))).toBe(true);
    await supervisor.apply(request(WEB));
    expect(first.probesEnded).toBe(1);
    first.probed.clear();
    await world.pass(2000);
    expect(first.probed.size).toBe(0);

    world.noXdp = "no such driver";
    await supervisor.apply(request({ ...through, interfaces: ["eth1"] }));
    expect(supervisor.status().mode).toBe("proxy");
    await world.pass(2000);
    expect(world.planes.map(({ probed }) => probed.size)).toEqual([0, 0]);
    world.noXdp = null;
    await supervisor.apply(request({ ...through, interfaces: ["eth2"] }));
    await world.pass(2000);
    expect(world.plane.probed.size).toBe(3);
  });

  it("a proxy that tries XDP in vain stays the one that has the connections", async () => {
    const world = new World();
    world.noXdp = "no such driver";
    const supervisor = await world.start(WEB);
    const proxy = world.plane;
    await supervisor.apply(request({ ...WEB, interfaces: ["eth1"] }));
    expect(world.planes).toHaveLength(2);
    expect([world.planes[1]?.closed, proxy.closed]).toEqual([{ detach: true }, null]);
    expect(proxy.applied.length).toBeGreaterThan(1);
    expect(supervisor.status().config.revision).toBe(2);
  });

  it("a plane that cannot be opened leaves the old one in its seat", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    world.openFails = new Failure("DEVICE_MISSING", { name: "eth9" }, "there is no interface eth9");
    const failure = await failureOf(supervisor.apply(request({ ...WEB, interfaces: ["eth9"] })));
    expect(failure.code).toBe("DEVICE_MISSING");
    expect(world.planes).toHaveLength(1);
    expect(world.plane.closed).toBeNull();
    world.dead.add("web/a");
    await world.pass(100);
    expect(supervisor.table()?.services).toHaveLength(1);
  });

  it("xdp after xdp shares what is pinned: the old one leaves without detaching", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const old = world.plane;
    await supervisor.apply(request({ ...WEB, interfaces: ["eth1"] }));
    expect(old.closed).toEqual({ detach: false });
    expect(world.plane).not.toBe(old);
    expect(world.pinned.table).toBe(supervisor.table());
  });
});
