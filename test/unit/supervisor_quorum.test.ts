// A quorum from the probes to events, status and overrides of a supervisor. The plane is simulated; time is fake.

import { expect, it } from "vitest";
import { World } from "../support/world.ts";

it("is lost with its backends, told, regained, and not given away by an override", async () => {
  const world = new World();
  const quorum = { minimum: { count: 2 }, regainAfterMs: 3000, up: null, down: null, timeoutMs: 1000 };
  await world.start({
    pools: { web: ["a", "b", "c"] }, rules: { web: { quorum } }, services: [{ name: "web", port: 80 }], probes: true,
  });
  const { supervisor } = world;
  const met = (): unknown => supervisor.status().pools[0]!.quorum;
  const told = (): string[] => supervisor.events.since(0).filter(({ subject }) => subject === "web").map(({ message }) => message);
  await world.pass(5_000);
  expect([met(), told()]).toEqual([{ needed: 2, met: true }, []]);

  const drain = (target: string, force?: boolean): Promise<unknown> => supervisor.override({
    target, change: { kind: "drain" }, actor: "ann", reason: null, expiresInMs: null, ...(force === undefined ? {} : { force }),
  });
  await drain("a");
  await expect(drain("b")).rejects.toMatchObject({ code: "BELOW_QUORUM" });
  expect(supervisor.overrides().map(({ target }) => target)).toEqual(["web/a"]);
  world.dead.add("web/b");
  await world.pass(6_000);
  expect(met()).toEqual({ needed: 2, met: false });
  expect(supervisor.status().warnings).toContain("pool web has lost its quorum: 1 of 3 backends are up, and 2 are to be");
  expect(supervisor.status().ready).toBe(true);
  world.dead.delete("web/b");
  await world.pass(10_000);
  expect(told()).toEqual([
    "has lost its quorum: 1 of 3 backends are up, and 2 are to be", "has its quorum again: 2 of 3 backends are up, and 2 are to be",
  ]);
  await drain("b", true);
  expect(met()).toEqual({ needed: 2, met: false });
});

it("is found only when something is forwarded: nobody is told to send clients before", async () => {
  const world = new World();
  world.failures = 2;
  const quorum = { minimum: { count: 2 }, regainAfterMs: 3000, up: ["/bin/announce"], down: null, timeoutMs: 1000 };
  await world.start({ pools: { web: ["a", "b", "c"] }, rules: { web: { quorum } }, services: [{ name: "web", port: 80 }] });
  const { supervisor } = world;
  const hooks = (): string[] => supervisor.events.since(0).map(({ message }) => message).filter((each) => each.startsWith("quorum.up"));
  expect([supervisor.table(), supervisor.status().pools[0]!.quorum?.met, hooks()]).toEqual([null, null, []]);
  await world.pass(3_000);
  expect(supervisor.status().pools[0]!.quorum?.met).toBe(true);
  expect(hooks()).toHaveLength(1);
});
