// The supervisor over a simulated plane: what it applies, what it refuses, what it tries again, what it
// tells. Time is fake; nothing here waits.

import { describe, expect, it } from "vitest";
import { statusSchema } from "../../src/api/schemas.ts";
import { layEvent } from "../../src/cli/events.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { settle } from "../support/fake_env.ts";
import { FILE, failureOf, messages, request, slotsOf, STATE, World } from "../support/world.ts";

const WEB: ConfigSketch = { probes: true, pools: { web: ["a", "b", "c"] }, services: [{ name: "web" }] };
const TWO: ConfigSketch = { ...WEB, services: [{ name: "web" }, { name: "more" }] };

describe("start", () => {
  it("applies the config, records revision 1, is ready, and its status fits the schema", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const status = statusSchema.parse(supervisor.status());
    expect(status).toMatchObject({
      instance: "main", mode: "xdp", ready: true, reasons: [], hashSeed: "state", adopted: false,
      config: { file: FILE, revision: 1, fileDiffers: false, problems: [] },
      lastApply: { error: null, retryAtMs: null },
    });
    expect(status.services[0]).toMatchObject({ name: "web", listening: "203.0.113.10:80", backends: 3 });
    expect(world.plane.applied).toHaveLength(1);
    expect(messages(world)[0]).toBe("XDP can be used");
  });

  it("keeps the created seed for the next start, even without the plane", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const seed = supervisor.table()?.services[0]?.hashSeed;
    await supervisor.close({ detach: true, drainMs: 0 });
    expect(world.pinned.table).toBeNull();
    const next = await world.start();
    expect(next.table()?.services[0]?.hashSeed).toBe(seed);
    expect(world.env.stored.get(`${STATE}/seed`)?.mode).toBe(0o600);
  });

  it("takes the adopted plane's seed when the state directory is lost", async () => {
    const world = new World();
    const seed = (await world.start(WEB)).table()?.services[0]?.hashSeed;
    world.kill();
    for (const path of world.env.stored.keys()) if (path.startsWith(STATE)) world.env.files.remove(path);
    const next = await world.start();
    expect(next.table()?.services[0]?.hashSeed).toBe(seed);
    expect(next.status().hashSeed).toBe("adopted");
  });

  it("prefers the adopted plane's seed, since flows were hashed with it, and keeps it", async () => {
    const world = new World();
    await world.start(WEB);
    world.kill();
    world.state().saveSeed(5n);
    world.pinned.seed = 6n;
    const next = await world.start();
    expect(next.table()?.services[0]?.hashSeed).toBe(6n);
    expect(world.state().seed()).toBe(6n);
  });

  it("a named seed file that is missing is a config problem, found before a plane is opened", async () => {
    const world = new World();
    const failure = await failureOf(world.start({ ...WEB, seedFile: "/etc/seed" }));
    expect(failure.code).toBe("CONFIG_INVALID");
    expect(failure.message).toContain("/etc/seed cannot be read");
    expect(world.planes).toHaveLength(0);
    world.env.files.writeAtomic("/etc/seed", "00112233445566FF\n", 0o600);
    const supervisor = await world.start();
    expect(supervisor.table()?.services[0]?.hashSeed).toBe(0x00112233445566ffn);
  });

  it("a plane that was opened in vain leaves: without a trace, unless it was adopted", async () => {
    const world = new World();
    world.write({ ...WEB, seedFile: "/etc/seed" });
    world.env.files.writeAtomic("/etc/seed", "0000000000000001", 0o600);
    const { read } = world.env.files;
    // It is there when it is looked for, and gone when the plane is open.
    const vanish = (): void => {
      let reads = 0;
      world.env.files.read = (path) => {
        reads += path === "/etc/seed" ? 1 : 0;
        return path === "/etc/seed" && reads > 1 ? null : read(path);
      };
    };
    vanish();
    await expect(world.start()).rejects.toThrow("/etc/seed cannot be read");
    expect(world.plane.closed).toEqual({ detach: true });
    world.env.files.read = read;
    await world.start();
    world.kill();
    vanish();
    await expect(world.start()).rejects.toThrow("/etc/seed cannot be read");
    expect(world.plane.closed).toEqual({ detach: false });
    expect(world.pinned.table).not.toBeNull();
  });

  it("announces a fallback: event and status say why", async () => {
    const world = new World();
    world.noXdp = "no CAP_BPF";
    const supervisor = await world.start(WEB);
    expect(supervisor.events.since(0)[0]).toMatchObject({ kind: "fallback", subject: "proxy", message: "no CAP_BPF" });
    expect(supervisor.status()).toMatchObject({ mode: "proxy", plane: { reason: "no CAP_BPF", remedy: "use a NIC" } });
  });

  it("adopts: same ids, same ring, no step to do, and who was down stays down until probes say else", async () => {
    const world = new World();
    await world.start(WEB);
    world.dead.add("web/b");
    await world.pass(10_000);
    const before = world.pinned.table!;
    expect(slotsOf(world, "web/b")).toBe(0);
    world.kill();
    await world.pass(60 * 60_000);
    const next = await world.start();
    expect(next.status()).toMatchObject({ adopted: true, lastApply: { steps: 0 } });
    expect(next.table()?.services[0]?.ring.slots).toEqual(before.services[0]?.ring.slots);
    world.dead.clear();
    await world.pass(5000);
    expect(slotsOf(world, "web/b")).toBeGreaterThan(0);
  });
});

describe("health", () => {
  it("a backend that goes down loses its slots in one apply, and gets the same ones back", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const before = supervisor.table()!.services[0]!.ring.slots;
    await world.pass(2000);
    const { applies } = world.plane;
    world.dead.add("web/b");
    await world.pass(5000);
    expect(world.plane.applies).toBe(applies + 1);
    expect(slotsOf(world, "web/b")).toBe(0);
    const row = supervisor.status().backends.find((each) => each.name === "web/b");
    expect(row).toMatchObject({ state: "down", reason: "connection refused", admission: 0 });
    world.dead.clear();
    await world.pass(5000);
    expect(supervisor.table()!.services[0]!.ring.slots).toEqual(before);
    const heard = supervisor.events.since(0).filter(({ subject }) => subject === "web/b");
    expect(heard.map(({ message }) => message)).toEqual([
      "is up: connected", "is down: connection refused", "is up: connected",
    ]);
    expect([...supervisor.totals().transitions.get("web/b") ?? []]).toEqual([["up", 2], ["down", 1]]);
    const refused = { durationMs: 1, ok: false, conclusive: true, reason: "connection refused" };
    const probes = heard[1]?.fields["probes"] as { atMs: number }[];
    expect(probes).toEqual(probes.map(({ atMs }) => ({ ...refused, atMs })));
    expect(probes.map(({ atMs }) => (heard[1]?.atMs ?? 0) - atMs).at(-1)).toBe(0);
    const down = world.env.logged.find(({ message }) => message === "web/b is down: connection refused");
    expect(down).toMatchObject({ level: "warn", fields: { probes: Array(probes.length).fill("failed after 1 ms: connection refused") } });
    expect(supervisor.totals().lastVerdictSeconds).toBe(0);
  });

  it("a backend that moved is not what the probes of its old address said", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    world.dead.add("web/b");
    await world.pass(10_000);
    expect(slotsOf(world, "web/b")).toBe(0);
    await supervisor.apply(request({ ...WEB, pools: { web: ["a", { name: "b", address: "10.9.9.9" }, "c"] } }));
    await supervisor.quiet();
    expect(slotsOf(world, "web/b")).toBeGreaterThan(0);
  });

  it("changes during an apply become one further apply", async () => {
    const world = new World();
    await world.start(WEB);
    await world.pass(2000);
    world.plane.hang();
    const { applies } = world.plane;
    const weigh = (name: string): Promise<unknown> => world.supervisor.override({
      target: name, change: { kind: "weight", weight: 5 }, actor: "ann", reason: null, expiresInMs: null,
    });
    const changes = [weigh("a")];
    await settle();
    expect(world.plane.applies).toBe(applies + 1);
    for (const name of ["b", "c"]) {
      changes.push(weigh(name));
      await settle();
    }
    world.plane.release();
    await Promise.all(changes);
    expect(world.plane.applies).toBe(applies + 2);
    expect(world.supervisor.status().backends.map((each) => each.weight)).toEqual([5, 5, 5]);
  });
});

describe("a failed apply", () => {
  it("keeps the last good table, shows in readiness, and is tried again with backoff", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    await world.pass(2000);
    const good = supervisor.table();
    world.plane.failures = 3;
    world.dead.add("web/a");
    await world.pass(3100);
    expect(supervisor.table()).toBe(good);
    expect(supervisor.status()).toMatchObject({ ready: false });
    expect(supervisor.status().reasons[0]).toContain("told to fail");
    expect(supervisor.status().lastApply?.retryAtMs).not.toBeNull();
    await world.pass(5000);
    expect(supervisor.status()).toMatchObject({ ready: true, lastApply: { error: null } });
    expect(slotsOf(world, "web/a")).toBe(0);
    expect(supervisor.totals().applyFailures).toBe(3);
    // Three retries after the verdict: 250, 500 and 1000 ms.
    expect(supervisor.totals().lastVerdictSeconds).toBe(1.75);
    expect(messages(world).filter((text) => text.startsWith("apply failed"))).toHaveLength(3);
  });

  it("of a new config leaves the one in force at work, health included, until it works or is dropped", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    await world.pass(2000);
    world.plane.refuses = "more";
    const failure = await failureOf(supervisor.apply(request(TWO)));
    expect(failure.message).toContain("the last good config stays in force");
    world.dead.add("web/b");
    await world.pass(10_000);
    expect(supervisor.status().reasons[0]).toContain("a new config cannot be applied");
    expect(supervisor.config().services).toHaveLength(1);
    expect(supervisor.status().config.revision).toBe(1);
    expect(slotsOf(world, "web/b")).toBe(0);
    world.plane.refuses = null;
    await world.pass(30_000);
    expect(supervisor.config().services).toHaveLength(2);
    expect(supervisor.status()).toMatchObject({ ready: true, config: { revision: 2, fileDiffers: true } });
  });

  it("of a new config can be taken back", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    world.plane.failures = 1;
    await failureOf(supervisor.apply(request(TWO)));
    await supervisor.rollback(null, "ann");
    await world.pass(60_000);
    expect(supervisor.config().services).toHaveLength(1);
    expect(supervisor.status()).toMatchObject({ ready: true, config: { revision: 1 } });
  });

  it("at the start does not keep the supervisor from starting", async () => {
    const world = new World();
    world.failures = 2;
    const supervisor = await world.start(WEB);
    expect(supervisor.table()).toBeNull();
    expect(supervisor.status()).toMatchObject({ ready: false, config: { revision: 0 } });
    expect(supervisor.status().reasons[0]).toBe("no table has been applied yet");
    await world.pass(2000);
    expect(supervisor.status()).toMatchObject({ ready: true, config: { revision: 1 } });
  });

  it("that hangs is a reason not to be ready", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    await world.pass(2000);
    world.plane.hang();
    world.dead.add("web/a");
    await world.pass(20_000);
    expect(supervisor.status().reasons[0]).toMatch(/an apply has been running for \d+ s/);
    world.plane.release();
    await world.pass(10);
    expect(supervisor.status().ready).toBe(true);
  });

  it("for one service only shows in readiness and is tried again", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    world.plane.unserved.set("more", "port in use");
    const result = await supervisor.apply(request(TWO));
    expect(result.failed).toEqual([{ service: "more", reason: "port in use" }]);
    expect(supervisor.status().reasons).toEqual(["service more is not served: port in use"]);
    world.plane.unserved.clear();
    await world.pass(1000);
    expect(supervisor.status().ready).toBe(true);
    expect(messages(world)).toContain("is served now");
  });
});

describe("overrides", () => {
  const drain = { change: { kind: "drain" as const }, actor: "ann", reason: "kernel update", expiresInMs: null };

  it("by bare name, in force at once, kept over kill -9, cleared by name", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    world.plane.held.set("web/b", 1);
    const view = await supervisor.override({ ...drain, target: "b" });
    expect(view).toMatchObject({ id: "drain:web:b", target: "web/b", actor: "ann", matches: true });
    expect(slotsOf(world, "web/b")).toBe(0);
    world.kill();
    const next = await world.start();
    world.plane.held.set("web/b", 1);
    expect(next.status().backends[1]).toMatchObject({ state: "draining", reason: "drained by ann: kernel update" });
    expect(slotsOf(world, "web/b")).toBe(0);
    expect(await next.clearOverrides({ target: "b", kind: "drain" }, "bob")).toHaveLength(1);
    expect(slotsOf(world, "web/b")).toBeGreaterThan(0);
    expect(await next.clearOverrides({ target: "b", kind: "drain" }, "bob")).toEqual([]);
    expect(messages(world)).toContain("drain by ann is cleared by bob");
  });

  it("expire at their time and are then gone from the file too", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    await supervisor.override({ ...drain, target: "web/b", expiresInMs: 90_000 });
    await world.pass(89_000);
    expect(slotsOf(world, "web/b")).toBe(0);
    await world.pass(2_000);
    expect(slotsOf(world, "web/b")).toBeGreaterThan(0);
    expect(supervisor.overrides()).toEqual([]);
    expect(world.state().overrides()).toEqual([]);
    expect(messages(world)).toContain("drain by ann has expired");
  });

  it("outlive their backend without effect, and can be cleared then", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    await supervisor.override({ ...drain, target: "web/b" });
    await supervisor.apply(request({ ...WEB, pools: { web: ["a"] } }));
    expect(supervisor.overrides()[0]).toMatchObject({ target: "web/b", matches: false });
    expect(await supervisor.clearOverrides({ target: "web/b", kind: null }, "ann")).toHaveLength(1);
  });

  it("unknown and ambiguous names are failures with candidates", async () => {
    const world = new World();
    const supervisor = await world.start({ ...WEB, pools: { web: ["a"], db: ["a"] } });
    const unknown = await failureOf(supervisor.override({ ...drain, target: "zz" }));
    expect(unknown.message).toBe("there is no backend zz; there are web/a, db/a");
    const twice = await failureOf(supervisor.override({ ...drain, target: "a" }));
    expect(twice.details).toEqual({ name: "a", candidates: ["web/a", "db/a"] });
    expect(world.env.stored.has(`${STATE}/overrides.json`)).toBe(false);
  });

  it("a broken file is set aside with a warning, and the start goes on", async () => {
    const world = new World();
    world.env.files.writeAtomic(`${STATE}/overrides.json`, "{ not json", 0o600);
    const supervisor = await world.start(WEB);
    expect(supervisor.overrides()).toEqual([]);
    expect(world.setAside[0]).toContain("cannot be read");
    expect([...world.env.stored.keys()].some((path) => path.includes("overrides.json.broken-"))).toBe(true);
    await supervisor.override({ ...drain, target: "web/b" });
    expect(world.state().overrides()).toHaveLength(1);
  });
});

describe("a state directory that refuses to be written", () => {
  const FULL = "ENOSPC: no space left on device, write";

  it("stops nothing: the start, health, expiry and configs go on, and status says what is not kept", async () => {
    const world = new World();
    world.stateRefuses = FULL;
    const supervisor = await world.start(WEB);
    expect(supervisor.status()).toMatchObject({ ready: true, hashSeed: "state", config: { revision: 1 } });
    expect(supervisor.status().warnings.join()).toMatch(/seed cannot be written: ENOSPC/);
    expect(world.setAside.filter((each) => each.includes("/seed "))).toHaveLength(1);
    await supervisor.apply(request(TWO));
    expect(supervisor.status().config.revision).toBe(2);
    world.dead.add("web/a");
    await world.pass(20_000);
    expect(slotsOf(world, "web/a")).toBe(0);
    world.stateRefuses = null;
    world.dead.delete("web/a");
    await world.pass(20_000);
    expect(supervisor.status().warnings.join()).not.toContain("health.json");
  });

  it("refuses a new override, which a restart would forget, and lets an old one expire", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const drain = { change: { kind: "drain" as const }, actor: "ann", reason: null };
    await supervisor.override({ ...drain, target: "web/a", expiresInMs: 5000 });
    world.stateRefuses = FULL;
    const refused = await failureOf(supervisor.override({ ...drain, target: "web/b", expiresInMs: null }));
    expect(refused).toMatchObject({ code: "SYSTEM" });
    expect(refused.message).toContain(`${STATE}/overrides.json cannot be written: ENOSPC`);
    expect(slotsOf(world, "web/b")).toBeGreaterThan(0);
    await world.pass(6000);
    expect(supervisor.overrides()).toEqual([]);
    expect(slotsOf(world, "web/a")).toBeGreaterThan(0);
    expect(messages(world)).toContain("drain by ann has expired");
    world.kill();
    const next = await world.start();
    expect(next.overrides()).toEqual([]);
    expect(next.status().ready).toBe(true);
  });
});

describe("the rest", () => {
  it("a start that fails leaves no timer behind, which would keep the process alive", async () => {
    const world = new World();
    world.statusFails = true;
    await expect(world.start(WEB)).rejects.toThrow("status cannot be read");
    expect(world.env.timers()).toBe(0);
  });

  it("is not ready any more once it ends", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const end = supervisor.close({ detach: false, drainMs: 1000 });
    expect(supervisor.status()).toMatchObject({ ready: false, reasons: ["the supervisor is ending"] });
    await end;
  });

  it("says which keys the plane that runs ignores, in the log and in status", async () => {
    const world = new World();
    const sketch: ConfigSketch = { ...WEB, ignoredByProxy: ["limits.flows"] };
    const supervisor = await world.start(sketch);
    expect(supervisor.status().warnings).toEqual([]);
    world.kill();
    world.noXdp = "no NIC";
    const next = await world.start(sketch);
    const said = "limits.flows: ignored by the proxy plane";
    expect(next.status()).toMatchObject({ mode: "proxy", warnings: [said] });
    expect(world.env.messages("warn")).toEqual([said]);
    await next.reload("ann");
    expect(world.env.messages("warn")).toEqual([said]);
  });

  it("beats once a second, and ends so that an xdp plane goes on", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const { heartbeats } = world.plane;
    await world.pass(10_000);
    expect(world.plane.heartbeats - heartbeats).toBe(10);
    await supervisor.close({ detach: false, drainMs: 0 });
    await supervisor.close({ detach: true, drainMs: 0 });
    expect(world.plane.closed).toEqual({ detach: false });
    expect(world.pinned.table).not.toBeNull();
    expect(world.env.timers()).toBe(0);
  });

  it("events arrive in order with consecutive ids, to whoever listens from the middle on", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const from = supervisor.events.lastId;
    const heard: number[] = [];
    const listening = (async () => {
      for await (const event of supervisor.events.subscribe({ since: from, signal: null })) heard.push(event.id);
    })();
    for (const name of ["one", "two", "three"]) supervisor.note("supervisor", "test", name);
    await settle();
    expect(heard).toEqual([from + 1, from + 2, from + 3]);
    await supervisor.close({ detach: false, drainMs: 0 });
    await listening;
    expect(heard.at(-1)).toBe(supervisor.events.lastId);
  });

  it("an event names its subject once: its message does not repeat it", async () => {
    const world = new World();
    world.noXdp = "no CAP_BPF";
    const supervisor = await world.start(WEB);
    world.dead.add("web/b");
    await world.pass(10_000);
    const change = { kind: "weight" as const, weight: 7 };
    await supervisor.override({ target: "a", change, actor: "ann", reason: null, expiresInMs: 1000 });
    await world.pass(2000);
    await supervisor.override({ target: "a", change, actor: "ann", reason: null, expiresInMs: null });
    await supervisor.clearOverrides({ target: "a", kind: null }, "bob");
    world.env.files.writeAtomic(FILE, "version: 1\nservices: 7\n", 0o644);
    await failureOf(supervisor.reload("ann"));
    const events = supervisor.events.since(0);
    expect(new Set(events.map(({ kind }) => kind)))
      .toEqual(new Set(["fallback", "apply", "health", "override", "config"]));
    const repeating = events.filter(({ subject, message }) =>
      message.split(/[\s,;()]+|: |:$/).includes(subject));
    expect(repeating.map(layEvent)).toEqual([]);
  });

  it("explain and ring answer from the table in force", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const told = supervisor.explain({ client: "198.51.100.7:40000", service: "web" });
    const ring = supervisor.ring({ service: "web", down: [], remove: [] });
    expect(told.backend).toBe(`web/${ring.slots[told.slot] ?? ""}`);
    const down = supervisor.ring({ service: "web", down: [told.backend!], remove: [] });
    expect(down.slots[told.slot]).not.toBe(ring.slots[told.slot]);
    await supervisor.override({
      target: told.backend!, change: { kind: "drain" }, actor: "ann", reason: null, expiresInMs: null,
    });
    const lent = supervisor.explain({ client: "198.51.100.7:40000", service: "web" });
    expect(lent.configuredOwner).toBe(told.backend);
    expect(lent.backend).toBe(`web/${down.slots[told.slot] ?? ""}`);
    expect(lent.steps.map((each) => each.step)).toContain("lending 1");
    expect(() => supervisor.explain({ client: "[2001:db8::1]:1", service: "web" })).toThrow("IPv6");
    expect(() => supervisor.explain({ client: "nonsense", service: "web" })).toThrow("address:port");
    expect(() => supervisor.ring({ service: "nope", down: [], remove: [] })).toThrow("there is no service nope");
  });
});
