// The XDP program agrees with decide() in verdict, backend and effects, over random tables, flows
// and packets, and whatever it rewrites has right sums. Each world has its own seed, which a
// failure names.

import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { VERDICT_NAMES } from "../../src/dataplane/xdp/abi.gen.ts";
import { BpfWorld } from "../support/bpf_world.ts";
import { randomised } from "../support/counts.ts";
import { Comparison } from "../support/differential.ts";
import type { Setting } from "../support/differential.ts";
import { ADDON_PATH, BPF_DIRECTORY, describeKernel } from "../support/kernel.ts";
import { Draws } from "../support/random.ts";

const PACKETS_PER_WORLD = 250;
const INGRESS = 1;
const ABSENT = 7777;

describeKernel("differential", ["capabilities", "addon", "programs"], () => {
  const worlds: BpfWorld[] = [];
  afterAll(() => {
    for (const world of worlds) world.close();
  });

  function setting(transmitByRedirect: boolean): Setting {
    const world = new BpfWorld(loadNative(ADDON_PATH), {
      object: join(BPF_DIRECTORY, "pointsman.bpf.o"),
      flowsMax: 65_536,
      devices: [INGRESS],
      switches: { transmit_by_redirect: transmitByRedirect },
    });
    worlds.push(world);
    return {
      world,
      program: "pointsman",
      ingress: INGRESS,
      egress: INGRESS,
      absent: ABSENT,
      transmitByRedirect,
    };
  }

  it("verdict, backend, effects, bytes and sums agree", () => {
    randomised("packets", ({ seed, count }) => {
      const settings = [setting(false), setting(true)];
      const seen = new Map<string, number>();
      for (let done = 0, number = 0; done < count; number += 1) {
        const worldSeed = Math.imul(seed, 0x9e3779b1) + number;
        const draws = new Draws(worldSeed);
        try {
          const comparison = new Comparison(draws, settings[number % 2]!);
          for (let packet = 0; packet < PACKETS_PER_WORLD; packet += 1, done += 1) {
            const verdict = comparison.step(draws);
            seen.set(verdict, (seen.get(verdict) ?? 0) + 1);
          }
          comparison.finish();
        } catch (error) {
          if (error instanceof Error) error.message += `\nworld ${number}, seed ${worldSeed}`;
          throw error;
        }
      }
      const never = VERDICT_NAMES.slice(1, -1).filter((name) => !seen.has(name));
      expect(never).toEqual(["DROP_NO_ROOM"]);
    });
  });
});
