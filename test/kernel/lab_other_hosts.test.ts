// Frames for others come by a balancer whose switch floods them: whatever is in them, they pass untouched. Those
// for this host are the ones to its own link address, which may change, and to that of a virtual router.

import { afterAll, beforeAll, expect, it } from "vitest";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { verdictPackets, waitFor } from "../../scripts/lab_services.ts";
import { runInSync } from "../../scripts/namespaces.ts";
import { macBytes } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { VerdictName } from "../../src/model/decide.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, ICMP, ICMPV6, TCP, UDP } from "../support/packets.ts";
import { linkOf, sendFrame } from "./fixtures/frames.ts";
import { Topology, type TopologyHost } from "./fixtures/topology.ts";

const LAN = 1;
const STRANGER = "02:00:00:00:00:99";
const ROUTER = "00:00:5e:00:01:0a";
const CONFIGURED = "00:00:5e:00:02:0b";
const MOVED = "02:00:00:00:00:77";

describeKernel("frames for others in the lab", [...KERNEL, "tool:perl"], () => {
  let topology: Topology;
  let balancer: TopologyHost;
  let client: TopologyHost;

  beforeAll(async () => {
    topology = new Topology("others");
    balancer = topology.balancer("balancer", [{ segment: LAN, last: 1 }]);
    client = topology.client("client", { segment: LAN, last: 2 }, balancer);
    const backend = topology.host("web-1", [{ segment: LAN, last: 11 }]);
    const instance = await topology.run(balancer, {
      forwarding: "l2", backendFamily: 4, backends: [backend], health: "{ type: none }",
      dataplane: `macs: ["${CONFIGURED}"]`,
    });
    await waitFor("the backend's link address", 20_000, async () =>
      (await instance.verb("status", "-o", "json")).includes("resolved: "));
  });
  afterAll(async () => { await topology?.close(); });

  function frame(to: string, vip: string, protocol: number): Uint8Array {
    return frameOf({
      family: vip === VIP4 ? 4 : 6, destinationMac: macBytes(to), sourceMac: macBytes(linkOf(client).address),
      source: parseAddress(vip === VIP4 ? client.ipv4 : client.ipv6)!.bytes, destination: parseAddress(vip)!.bytes,
      protocol, sourcePort: 40_000, destinationPort: protocol === TCP ? 80 : 7,
      flags: protocol === TCP ? 2 : protocol === ICMP ? 8 : 128, payload: new Uint8Array(64).fill(0x61),
    });
  }

  const sum = async (...verdicts: VerdictName[]): Promise<number> =>
    (await Promise.all(verdicts.map((verdict) => verdictPackets({ balancer }, verdict)))).reduce((a, b) => a + b);
  const taken = (): Promise<number> => sum("TX_FORWARDED", "TX_ECHO_REPLY");
  const passed = (): Promise<number> => sum("PASS_OTHER_HOST");

  async function isTaken(one: Uint8Array): Promise<boolean> {
    const [takenBefore, passedBefore] = [await taken(), await passed()];
    sendFrame(client, one);
    await waitFor("a verdict", 10_000, async () =>
      await taken() > takenBefore || await passed() > passedBefore);
    return await taken() > takenBefore;
  }

  const takes = (to: string): Promise<boolean> => isTaken(frame(to, VIP4, UDP));

  it.each([VIP4, VIP6])("pass, whatever they carry for %s; those for this host do not", async (vip) => {
    const own = linkOf(balancer).address;
    for (const protocol of [TCP, UDP, vip === VIP4 ? ICMP : ICMPV6]) {
      expect(await isTaken(frame(own, vip, protocol))).toBe(true);
      for (const to of [STRANGER, "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"])
        expect(await isTaken(frame(to, vip, protocol)), to).toBe(false);
    }
  });

  it("are not those to an address of dataplane.macs, nor those to a macvlan's, as long as it is there", async () => {
    expect(await takes(CONFIGURED)).toBe(true);
    expect(await takes(ROUTER)).toBe(false);
    runInSync(balancer.namespace, "ip", ["link", "add", "vrrp", "link", "eth0", "address", ROUTER, "type", "macvlan"]);
    runInSync(balancer.namespace, "ip", ["link", "set", "vrrp", "up"]);
    await waitFor("frames to the virtual router", 20_000, () => takes(ROUTER));
    runInSync(balancer.namespace, "ip", ["link", "del", "vrrp"]);
    await waitFor("frames to the virtual router to pass", 20_000, async () => !(await takes(ROUTER)));
  });

  it("are those to the address that the interface had before, once it has another", async () => {
    const before = linkOf(balancer).address;
    runInSync(balancer.namespace, "ip", ["link", "set", "eth0", "address", MOVED]);
    await waitFor("frames to the new address", 20_000, () => takes(MOVED));
    await waitFor("frames to the old one to pass", 20_000, async () => !(await takes(before)));
  });
});
