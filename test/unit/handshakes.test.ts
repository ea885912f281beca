// What backends took lately to answer what begins flows, out of counters: the window, too few answers, counters that begin
// anew, and readings that fail. Counters and time are fake.

import { beforeEach, describe, expect, it } from "vitest";
import { Handshakes } from "../../src/dataplane/xdp/handshakes.ts";
import { createFakeEnv, type FakeEnv } from "../support/fake_env.ts";

const SECOND_MS = 1000;

let env: FakeEnv;
let counters: Map<string, Map<string, { answers: number; waitedMs: number }>>;
let readings: number;
let fails: boolean;
let handshakes: Handshakes;

beforeEach(() => {
  env = createFakeEnv();
  counters = new Map([["web/a", new Map([["1/0", { answers: 1000, waitedMs: 5000 }]])]]);
  readings = 0;
  fails = false;
  handshakes = new Handshakes(() => env, () => {
    readings += 1;
    if (fails) throw new Error("no memory");
    return new Map([...counters].map(([name, places]) => [name, new Map([...places].map(([place, count]) => [place, { ...count }]))]));
  });
});

function answer(name: string, place: string, answers: number, eachMs: number): void {
  const places = counters.get(name) ?? new Map<string, { answers: number; waitedMs: number }>();
  counters.set(name, places);
  const count = places.get(place) ?? { answers: 0, waitedMs: 0 };
  places.set(place, { answers: count.answers + answers, waitedMs: count.waitedMs + answers * eachMs });
}

/** Asks each second, for so many. */
function follow(seconds: number, each: () => void = () => undefined): (number | null)[] {
  return Array.from({ length: seconds }, () => {
    env.advanceSync(SECOND_MS);
    each();
    return handshakes.of("web/a");
  });
}

describe("the first answers of a backend", () => {
  it("tell nothing at first, whatever was counted before, and then their mean", () => {
    expect(handshakes.of("web/a")).toBeNull();
    const told = follow(12, () => { answer("web/a", "1/0", 10, 3); });
    expect(told.slice(0, 9)).toEqual(Array<null>(9).fill(null));
    expect(told.slice(9)).toEqual([3, 3, 3]);
    expect(handshakes.of("web/nobody")).toBeNull();
  });

  it("are those of the last ten seconds where there are enough", () => {
    follow(30, () => { answer("web/a", "1/0", 10, 3); });
    const told = follow(14, () => { answer("web/a", "1/0", 10, 50); });
    expect(told[0]).toBeLessThan(10);
    expect(told[5]).toBeGreaterThan(told[2]!);
    expect(told.at(-1)).toBe(50);
  });

  it("are looked for in a minute where they are few, and are forgotten then", () => {
    handshakes.of("web/a");
    let second = 0;
    const told = follow(120, () => { if ((second += 1) % 5 === 0) answer("web/a", "1/0", 1, 7); });
    expect([told[40], told.at(-1)]).toEqual([null, 7]);
    // Ten come in fifty seconds.
    expect(told.indexOf(7)).toBeGreaterThanOrEqual(48);
    const later = follow(70);
    expect(later.slice(0, 5)).not.toContain(null);
    expect(later.slice(-5)).toEqual(Array<null>(5).fill(null));
  });

  it("too few to tell, for a minute, are none", () => {
    handshakes.of("web/a");
    let second = 0;
    expect(new Set(follow(200, () => { if ((second += 1) % 10 === 0) answer("web/a", "1/0", 1, 7); }))).toEqual(new Set([null]));
  });

  it("are those of all its destinations", () => {
    handshakes.of("web/a");
    const told = follow(20, () => {
      answer("web/a", "1/0", 3, 10);
      answer("web/a", "2/0", 1, 50);
    });
    expect(told.at(-1)).toBe(20);
  });
});

describe("counters that begin anew", () => {
  it("are no news where an id has become another's, or one's own again", () => {
    follow(20, () => { answer("web/a", "1/0", 10, 3); });
    counters.set("web/b", counters.get("web/a")!);
    counters.set("web/a", new Map([["4/7", { answers: 90_000, waitedMs: 9e9 }]]));
    const told = follow(30, () => { answer("web/a", "4/7", 10, 3); });
    expect(new Set(told)).toEqual(new Set([3]));
    expect(handshakes.of("web/b")).toBeNull();
  });

  it("are no news where they fall", () => {
    follow(20, () => { answer("web/a", "1/0", 10, 3); });
    counters.get("web/a")!.set("1/0", { answers: 2, waitedMs: 1e6 });
    expect(new Set(follow(30, () => { answer("web/a", "1/0", 10, 3); }))).toEqual(new Set([3]));
  });

  it("are another backend's than the one of that name that was away", () => {
    follow(20, () => { answer("web/a", "1/0", 10, 800); });
    counters.delete("web/a");
    expect(new Set(follow(4))).toEqual(new Set([null]));
    const told = follow(20, () => { answer("web/a", "5/0", 10, 3); });
    expect(new Set(told)).toEqual(new Set([null, 3]));
    expect(told.at(-1)).toBe(3);
  });
});

describe("readings", () => {
  it("are one for all who ask within two seconds, and serve those who ask each ten minutes", () => {
    for (let asked = 0; asked < 50; asked += 1) handshakes.of("web/a");
    expect(readings).toBe(1);
    for (let asked = 0; asked < 3; asked += 1) {
      env.advanceSync(600 * SECOND_MS);
      answer("web/a", "1/0", 600, asked);
      expect(handshakes.of("web/a")).toBe(asked);
    }
    expect(readings).toBe(4);
  });

  it("that fail tell nothing, and end nothing", () => {
    follow(20, () => { answer("web/a", "1/0", 10, 3); });
    fails = true;
    expect(new Set(follow(10).slice(1))).toEqual(new Set([null]));
    // Each member of a pool is asked for, each second.
    expect(env.logged.filter(({ level }) => level === "warn")).toHaveLength(5);
    fails = false;
    expect(follow(14, () => { answer("web/a", "1/0", 10, 3); }).at(-1)).toBe(3);
  });
});
