// The decapsulation program opens tunnels to the addresses that its host has at the moment: real addresses come and go
// in a namespace, and the program follows.

import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { waitFor } from "../../scripts/lab_services.ts";
import { createNamespace, deleteOwn, runInSync } from "../../scripts/namespaces.ts";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { followOwnAddresses } from "../../src/dataplane/xdp/own_addresses.ts";
import { DecapRun, LOCAL_ADDRESSES } from "../support/decap_run.ts";
import { createFakeEnv } from "../support/fake_env.ts";
import { readGolden } from "../support/golden_packets.ts";
import { ADDON_PATH, BPF_DIRECTORY, KERNEL, describeKernel } from "../support/kernel.ts";

const PATIENCE_MS = 10_000;
const golden = readGolden();

function tunnelTo(family: 4 | 6): Uint8Array {
  return golden.cases.find(({ name }) => name === `v4 ipip${family} udp`)!.expected;
}

describeKernel("own addresses", [...KERNEL, "tool:ip"], () => {
  const native = loadNative(ADDON_PATH);
  let namespace: string;
  let home = -1;
  let decap: DecapRun;

  beforeAll(() => {
    namespace = createNamespace("own");
    runInSync(namespace, "ip", ["link", "set", "lo", "up"]);
    runInSync(namespace, "ip", ["link", "add", "eth0", "type", "veth", "peer", "name", "beyond"]);
    home = openSync("/proc/thread-self/ns/net", "r");
    native.enterNetworkNamespace(`/run/netns/${namespace}`);
    decap = new DecapRun(ADDON_PATH, join(BPF_DIRECTORY, "decap.bpf.o"), {});
    for (const address of LOCAL_ADDRESSES) decap.removeLocal(address);
  });
  afterAll(() => {
    decap?.close();
    native.enterNetworkNamespace(`/proc/self/fd/${home}`);
    closeSync(home);
    deleteOwn();
  });

  function change(verb: "add" | "del", address: string): void {
    // Of an interface that is down, too: the kernel takes packets for them by any other.
    runInSync(namespace, "ip", ["address", verb, address, "dev", "eth0"]);
  }

  it("are followed as they come and go, of both families", async () => {
    change("add", "10.0.0.11/24");
    const unfollow = followOwnAddresses(native, decap.object.map("decap_local"), createFakeEnv());
    const verdict = (family: 4 | 6): string => decap.run(tunnelTo(family)).verdict;
    const becomes = (family: 4 | 6, wanted: string): Promise<void> =>
      waitFor(`${wanted} of IPv${family}`, PATIENCE_MS, () => Promise.resolve(verdict(family) === wanted));
    try {
      expect([verdict(4), verdict(6)]).toEqual(["DECAP_PASS_STRIPPED", "DECAP_PASS_NOT_LOCAL"]);
      change("add", "fd10::11/64");
      await becomes(6, "DECAP_PASS_STRIPPED");
      change("del", "10.0.0.11/24");
      await becomes(4, "DECAP_PASS_NOT_LOCAL");
      expect(verdict(6)).toBe("DECAP_PASS_STRIPPED");
      change("add", "10.0.0.11/24");
      await becomes(4, "DECAP_PASS_STRIPPED");
    } finally {
      unfollow();
    }
    change("del", "fd10::11/64");
    expect(verdict(6)).toBe("DECAP_PASS_STRIPPED");
  });
});
