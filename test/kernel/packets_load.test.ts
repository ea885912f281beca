// The programs load: built by every clang that CI builds with, specialised by every switch, and
// what a switch turns off is gone from the loaded program.

import { expect, it } from "vitest";
import { compilersHere } from "../../scripts/compile_bpf.ts";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { ADDON_PATH, describeKernel } from "../support/kernel.ts";
import { featuresOf, off, smallPlanes } from "../support/switches.ts";
import type { Switches } from "../support/switches.ts";
import { withObject } from "../support/trial.ts";
import { BpfWorld } from "../support/bpf_world.ts";

describeKernel("loading the packet path", ["capabilities", "addon", "tool:clang"], () => {
  function instructions(object: string, switches: Switches): number {
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

  for (const clang of compilersHere()) {
    it(`${clang}: as compiled, and without each feature`, () => {
      withObject(
        '#include "pointsman.bpf.c"',
        (object) => {
          const whole = instructions(object, {});
          const features = featuresOf(object);
          expect(features).toContain("feature_l2");
          for (const feature of features) {
            expect(instructions(object, off(feature)), `without ${feature}`).toBeLessThan(whole);
          }
          for (const plane of [...smallPlanes(object), off(...features)])
            expect(instructions(object, plane)).toBeLessThanOrEqual(whole);
          // Another way of leaving, and no smaller one: it has to load.
          expect(instructions(object, { transmit_by_redirect: true })).toBeGreaterThan(0);
        },
        clang,
      );
    });

    it.each(["decap", "probe"])(`${clang}: %s`, (name) => {
      withObject(
        `#include "${name}.bpf.c"`,
        (path) => {
          const object = loadNative(ADDON_PATH).BpfObject.open(path);
          try {
            object.load();
            expect(object.programInfo(name).xlatedInstructions).toBeGreaterThan(0);
          } finally {
            object.close();
          }
        },
        clang,
      );
    });
  }
});
