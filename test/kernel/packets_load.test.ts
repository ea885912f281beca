// The programs load: built by every clang that CI builds with, specialised by every switch, and
// what a switch turns off is gone from the loaded program.

import { expect, it } from "vitest";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { CLANGS } from "../support/clang.ts";
import { ADDON_PATH, describeKernel } from "../support/kernel.ts";
import { withObject } from "../support/trial.ts";
import { BpfWorld } from "../support/bpf_world.ts";

const FEATURES = [
  "feature_l2",
  "feature_ipip",
  "feature_tunnel_variation",
  "feature_tracking",
  "feature_policy",
  "feature_source_hash",
  "feature_orphan",
  "ring_class_small",
  "ring_class_medium",
  "ring_class_large",
] as const;

function off(...names: readonly string[]): Record<string, boolean> {
  return Object.fromEntries(names.map((name) => [name, false]));
}

/** What small planes look like: l2 without more, ipip without more, and nothing at all. */
const PLANES: readonly Readonly<Record<string, boolean>>[] = [
  off(
    "feature_ipip",
    "feature_tracking",
    "feature_policy",
    "feature_source_hash",
    "feature_orphan",
    "ring_class_small",
    "ring_class_large",
  ),
  off(
    "feature_l2",
    "feature_policy",
    "feature_source_hash",
    "ring_class_small",
    "ring_class_large",
  ),
  off(...FEATURES),
  { transmit_by_redirect: true },
];

describeKernel("loading the packet path", ["capabilities", "addon", "tool:clang"], () => {
  function instructions(object: string, switches: Readonly<Record<string, boolean>>): number {
    const world = new BpfWorld(loadNative(ADDON_PATH), {
      object,
      switches,
      flowsMax: 1024,
      devices: [],
    });
    try {
      return world.object.programInfo("pointsman").xlatedInstructions;
    } finally {
      world.close();
    }
  }

  // Plain `clang` is one of the others where there are others.
  for (const clang of CLANGS.filter((name) => name !== "clang" || CLANGS.length === 1)) {
    it(`${clang}: as compiled, and without each feature`, () => {
      withObject(
        '#include "pointsman.bpf.c"',
        (object) => {
          const whole = instructions(object, {});
          for (const feature of FEATURES) {
            expect(instructions(object, off(feature)), `without ${feature}`).toBeLessThan(whole);
          }
          for (const plane of PLANES)
            expect(instructions(object, plane)).toBeLessThanOrEqual(whole);
        },
        clang,
      );
    });

    it(`${clang}: decap`, () => {
      withObject(
        '#include "decap.bpf.c"',
        (path) => {
          const object = loadNative(ADDON_PATH).BpfObject.open(path);
          try {
            object.load();
            expect(object.programInfo("decap").xlatedInstructions).toBeGreaterThan(0);
          } finally {
            object.close();
          }
        },
        clang,
      );
    });
  }
});
