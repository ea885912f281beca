// The main job from outside: real sockets in the lab, through the XDP program, for each way of forwarding
// and each family. Bytes are checked, and that the program saw the packets.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Instance } from "../../scripts/lab_services.ts";
import { curlShares, udpShares } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { whyNotThorough } from "../support/counts.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";
import type { ServedLab } from "./fixtures/lab_fixture.ts";

const BACKENDS = 3;
const CONNECTIONS = 120;
/** In CI and test:long everything; else what differs in more than a header, and less of it. */
const isThorough = whyNotThorough() === null;
const TRANSFER_BYTES = isThorough ? 100_000_000 : 20_000_000;
/** Of the tunnels that differ from ipip by their headers alone. */
const SHORT_TRANSFER_BYTES = 20_000_000;
const CASES = waysOf("DIRECT", "l2/4", "ipip/6", "gue/4", "gre/6");

const host = (address: string): string => (address.includes(":") ? `[${address}]` : address);
const sum = (shares: ReadonlyMap<string, number>): number => [...shares.values()].reduce((a, b) => a + b, 0);

/** SHA-256 of the sequence that /bytes sends, computed here and not by the backend. */
async function expectedDigest(lab: Lab, bytes: number): Promise<string> {
  const script = `
    const { createHash } = require("node:crypto");
    const hash = createHash("sha256");
    const block = Buffer.from(Array.from({ length: 251 * 400 }, (_, i) => i % 251));
    let left = ${bytes};
    while (left > 0) { hash.update(left < block.length ? block.subarray(0, left) : block); left -= block.length; }
    console.log(hash.digest("hex"));`;
  return (await runIn(lab.client.namespace, process.execPath, ["-e", script])).stdout.trim();
}

describeKernel("forwarding in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily backends", ({ forwarding, backendFamily }) => {
    const isCommon = forwarding === "l2" || forwarding === "ipip";
    const bytes = isCommon ? TRANSFER_BYTES : SHORT_TRANSFER_BYTES;
    let served: ServedLab;
    let lab: Lab;
    let instance: Instance;
    beforeAll(async () => {
      served = await serveLab({ label: "", forwarding, backendFamily, backends: BACKENDS });
      ({ lab, instance } = served);
    });
    afterAll(async () => { await served?.close(); });

    describe.each([VIP4, VIP6])("to %s", (vip) => {
      it("spreads TCP connections over all backends and loses none", async () => {
        const shares = await curlShares(lab, vip, CONNECTIONS);
        expect([...shares.keys()]).toEqual(["web-1", "web-2", "web-3"]);
        expect(sum(shares)).toBe(CONNECTIONS);
      });

      it("spreads datagrams over all backends and loses none", async () => {
        const shares = await udpShares(lab, vip, CONNECTIONS);
        expect([...shares.keys()]).toEqual(["web-1", "web-2", "web-3"]);
        expect(sum(shares)).toBe(CONNECTIONS);
      });

      it("keeps the bytes of a large download and a large upload", async () => {
        const expected = await expectedDigest(lab, bytes);
        const url = `http://${host(vip)}`;
        const script =
          `curl -sf -m 120 '${url}/bytes?n=${bytes}' | tee >(sha256sum | cut -d' ' -f1 >&2)` +
          ` | curl -sf -m 120 --data-binary @- -H 'Expect:' '${url}/digest'`;
        const ended = await runIn(lab.client.namespace, "bash", ["-o", "pipefail", "-c", script], {
          timeoutMs: 150_000,
        });
        expect(ended.stderr.trim()).toBe(expected);
        expect(ended.stdout.trim()).toBe(expected);
      });

      // What explain says does not depend on the headers of a tunnel.
      if (!isCommon) return;
      it("meets the backend that explain names", async () => {
        const source = vip === VIP4 ? lab.client.ipv4 : lab.client.ipv6;
        // A port in TIME_WAIT cannot be bound again, be it the other family's or one that the kernel
        // gave to an earlier connection: these are below its range.
        const first = vip === VIP4 ? 21_001 : 21_101;
        for (let port = first; port < first + 3; port++) {
          const explained = JSON.parse(
            await instance.verb("explain", `${host(source)}:${port}`, vip === VIP4 ? "web-4" : "web-6", "-o", "json"),
          ) as { backend: string };
          const met = await runIn(lab.client.namespace, "curl", [
            "-sf",
            "-m",
            "5",
            "--local-port",
            String(port),
            `http://${host(vip)}/`,
          ]);
          expect(`web/${met.stdout.trim()}`, `from port ${port}`).toBe(explained.backend);
        }
      });
    });

    it("went through the program, and every packet has one verdict", async () => {
      const status = JSON.parse(await instance.verb("status", "-o", "json")) as {
        mode: string;
        interfaces: { mode: string }[];
        services: { name: string; traffic: { packets: number } }[];
      };
      expect(status.mode).toBe("xdp");
      expect(status.interfaces).toHaveLength(1);
      for (const { name, traffic } of status.services.filter((each) => !each.name.startsWith("iperf"))) {
        if (!name.startsWith("echo-tcp")) expect(traffic.packets, name).toBeGreaterThanOrEqual(CONNECTIONS);
      }
    });
  });
});
