// The XDP program agrees with decide() in verdict, backend and effects, over random tables, flows and
// packets, and whatever it rewrites has right sums. Each world has its own seed, which a failure names.

import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createNamespace, deleteOwn, runInSync } from "../../scripts/namespaces.ts";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { VERDICT_NAMES } from "../../src/dataplane/xdp/abi.gen.ts";
import { BpfWorld } from "../support/bpf_world.ts";
import { randomised } from "../support/counts.ts";
import { Comparison } from "../support/differential.ts";
import { LEAN_SWITCHES } from "../support/lean.ts";
import type { Setting } from "../support/differential.ts";
import { ADDON_PATH, BPF_DIRECTORY, KERNEL, describeKernel } from "../support/kernel.ts";
import { Draws } from "../support/random.ts";
import { FORWARDINGS, PICKS } from "../support/random_tables.ts";

const PACKETS_PER_WORLD = 250;
/** More than any way of forwarding has: their seeds do not meet. */
const WORLDS_MAX = 1_000_000;
/** Millions of packets, in a long run. */
const PATIENCE = { timeout: 3_600_000 };
const ABSENT = 7777;

describeKernel("differential", [...KERNEL, "tool:ip"], () => {
  const worlds: BpfWorld[] = [];
  let home = -1;

  // A namespace with two interfaces: test runs arrive by its loopback and may leave by the other.
  beforeAll(() => {
    const name = createNamespace("packets");
    runInSync(name, "ip", ["link", "add", "egress", "type", "veth", "peer", "name", "beyond"]);
    home = openSync("/proc/thread-self/ns/net", "r");
    loadNative(ADDON_PATH).enterNetworkNamespace(`/run/netns/${name}`);
  });
  afterAll(() => {
    for (const world of worlds) world.close();
    loadNative(ADDON_PATH).enterNetworkNamespace(`/proc/self/fd/${home}`);
    closeSync(home);
    deleteOwn();
  });

  function setting(transmitByRedirect: boolean, lean: boolean): Setting {
    const native = loadNative(ADDON_PATH);
    const [ingress, egress] = ["lo", "egress"].map((name) => native.interfaceIndex(name));
    const world = new BpfWorld(native, {
      object: join(BPF_DIRECTORY, "pointsman.bpf.o"),
      flowsMax: 65_536,
      devices: [ingress!, egress!],
      switches: { transmit_by_redirect: transmitByRedirect, ...(lean ? LEAN_SWITCHES : {}) },
    });
    worlds.push(world);
    return {
      world,
      program: "pointsman",
      ingress: ingress!,
      egress: egress!,
      absent: ABSENT,
      transmitByRedirect,
      lean,
      picked: new Map(),
      answered: new Map(),
    };
  }

  /** With everything on, transmitting by redirect, and lean. */
  let settings: readonly Setting[] = [];
  const seen = new Set<string>();

  it.each(FORWARDINGS)("packets, most of them by %s: verdict, backend, effects, bytes and sums agree", PATIENCE, (forwarding) => {
    if (settings.length === 0)
      settings = [setting(false, false), setting(true, false), setting(false, true)];
    randomised("packets", ({ seed, count }) => {
      const first = Math.imul(seed, 0x9e3779b1) + FORWARDINGS.indexOf(forwarding) * WORLDS_MAX;
      for (let done = 0, number = 0; done < count; number += 1) {
        const draws = new Draws(first + number);
        try {
          const comparison = new Comparison(draws, settings[number % settings.length]!, forwarding);
          for (let packet = 0; packet < PACKETS_PER_WORLD; packet += 1, done += 1) {
            seen.add(comparison.step(draws));
          }
          comparison.finish();
        } catch (error) {
          if (error instanceof Error) error.message += `\nworld ${number}, seed ${first + number}`;
          throw error;
        }
      }
    });
  });

  it("packets of all ways together meet every verdict and outcome", () => {
    // The lean program counts none; of the others each outcome is met.
    const outcomes = settings.slice(0, 2).flatMap(({ world }) => world.quicOutcomes());
    expect(outcomes.filter((count) => count < 10), outcomes.join()).toEqual([]);
    expect(settings[2]!.world.quicOutcomes()).toEqual([0, 0, 0, 0, 0]);
    const picked = [...PICKS, "affinity" as const].map((by) => [by, settings.reduce((sum, each) => sum + (each.picked.get(by) ?? 0), 0)] as const);
    expect(picked.filter(([, count]) => count < 5)).toEqual([]);
    const answered = [6, 17].map((protocol) => settings.reduce((sum, each) => sum + (each.answered.get(protocol) ?? 0), 0));
    expect(answered).not.toContain(0);
    // No random packet is long enough for the one, and no world so full as for the other.
    const never = VERDICT_NAMES.slice(1, -1).filter((name) => !seen.has(name));
    expect(never).toEqual(["DROP_NAT_FULL", "DROP_NO_ROOM"]);
  });
});
