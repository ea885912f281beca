// The config worker: the same answer as parseConfig, from a thread; limits of time and memory are problems
// of the file. Runs from sources; test/unit has no build, so dist is tested by the packed library.

import { expect, test } from "vitest";
import { parseConfigInWorker } from "../../src/config/load.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { createFakeEnv } from "../support/fake_env.ts";

/** Time stands still: only the worker can end these. */
const { clock } = createFakeEnv();
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const valid = bytes(`version: 1
dataplane: { mode: proxy, hashSeed: "00112233445566ff" }
services:
  - { name: a, address: 192.0.2.1, port: 80, forwarding: fullnat, backends: [{ name: b, address: 127.0.0.1 }] }
`);

test("a valid file gives the same Config as on this thread", async () => {
  const result = await parseConfigInWorker("a.yaml", valid, clock);
  expect(result).toEqual(parseConfig("a.yaml", valid));
  expect(result).toHaveProperty("config");
  // A seed is a bigint and an address holds bytes: both have to survive the way between threads.
  if ("config" in result) {
    expect(result.config.dataplane.hashSeed).toEqual({ from: "inline", seed: 0x00112233445566ffn });
    expect(result.config.services[0]?.network.address.bytes).toBeInstanceOf(Uint8Array);
  }
});

test("an invalid file gives the same problems as on this thread", async () => {
  const broken = bytes("version: 1\nservice: []\n");
  const result = await parseConfigInWorker("a.yaml", broken, clock);
  expect(result).toEqual(parseConfig("a.yaml", broken));
  expect(result).toHaveProperty("problems");
});

test("the bytes stay with the caller", async () => {
  const mine = valid.slice();
  await parseConfigInWorker("a.yaml", mine, clock);
  expect(mine).toEqual(valid);
});

test("a file that takes too long is a problem, not a wait", async () => {
  const env = createFakeEnv();
  const result = parseConfigInWorker("a.yaml", valid, env.clock);
  env.advanceSync(9_999);
  expect(env.timers()).toBe(1);
  env.advanceSync(1);
  await expect(result).resolves.toMatchObject({
    problems: [{ line: 1, column: 1, path: "", reason: "takes longer than 10 s to read" }],
  });
});

test("a file that takes too much memory is a problem, not a crash", async () => {
  const large = bytes(`version: 1\nservices: [${"{a: 1},".repeat(150_000)}]\n`);
  const result = await parseConfigInWorker("a.yaml", large, clock, { timeMs: 60_000, heapMb: 64 });
  expect(result).toMatchObject({ problems: [{ reason: "takes more than 64 MB of memory to read" }] });
});
