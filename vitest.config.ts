// Two projects: `unit` runs anywhere and in parallel; `kernel` needs privileges and runs each file in a
// process of its own, since a network namespace belongs to a thread and a crash of the addon must take
// only its own file along: two at a time, since they mostly wait, and share nothing but the kernel. Knows folders; scripts/test.mjs decides which project can run.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // Nobody watches; a stray snapshot must not be written by CI.
    watch: false,
    passWithNoTests: false,
    // Timings of earlier runs; a root run would leave files that their owner cannot replace.
    cache: false,
    projects: [
      {
        test: {
          name: "unit",
          include: [
            "test/unit/**/*.test.ts", "test/property/**/*.test.ts", "test/golden/**/*.test.ts",
            "test/simulation/**/*.test.ts", "test/tidy.test.ts",
          ],
          pool: "forks",
          // Worker threads inherit it, and start from sources where Node itself cannot read them.
          execArgv: ["--import", new URL("./scripts/typescript_loader.mjs", import.meta.url).href],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: "kernel",
          include: ["test/kernel/**/*.test.ts"],
          pool: "forks",
          maxWorkers: 2,
          testTimeout: 180_000,
          hookTimeout: 180_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
