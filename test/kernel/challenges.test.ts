// What this kernel's TCP does with a segment that makes it speak: it acknowledges, and the connection goes on. On the
// loopback; what follows from it is shown in the lab (lab_drain.test.ts).

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { afterEach, expect, it } from "vitest";
import { segmentTo } from "../../src/dataplane/xdp/challenges.ts";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { parseAddress } from "../../src/model/address.ts";
import { createEnv } from "../../src/env_real.ts";
import { ADDON_PATH, describeKernel } from "../support/kernel.ts";
import { until } from "./fixtures/plane_fixture.ts";

const SYN = 0x02;
const ACK = 0x10;
const { random } = createEnv({ logLevel: "error" });

describeKernel("a silent end of a connection", ["capabilities", "addon"], () => {
  const opened: { close(): void }[] = [];
  afterEach(() => { for (const each of opened.splice(0)) each.close(); });

  async function connection(host: string): Promise<{ readonly client: Socket; readonly serverPort: number }> {
    const server = createServer((socket) => {
      opened.push({ close: () => { socket.destroy(); } });
      socket.pipe(socket);
    });
    opened.push(server);
    server.listen(0, host);
    await once(server, "listening");
    const serverPort = (server.address() as AddressInfo).port;
    const client = connect({ host, port: serverPort });
    opened.push({ close: () => { client.destroy(); } });
    await once(client, "connect");
    return { client, serverPort };
  }

  /** Segments that the client's kernel has sent. */
  function sentBy({ localPort }: Socket): number {
    const said = execFileSync("ss", ["-Htin", "sport", "=", `:${localPort}`], { encoding: "utf8" });
    return Number(/segs_out:(\d+)/.exec(said)?.[1] ?? "0");
  }

  it.each([["127.0.0.1", SYN], ["127.0.0.1", ACK], ["::1", SYN], ["::1", ACK]])("at %s answers flags %d, and goes on", async (host, flags) => {
    const { client, serverPort } = await connection(host);
    const address = parseAddress(host)!.bytes;
    const end = { source: address, sourcePort: client.localPort!, destination: address, destinationPort: serverPort, protocol: 6 };
    const before = sentBy(client);
    const native = loadNative(ADDON_PATH);
    expect(native.sendPackets(segmentTo(end, flags, random))).toBe(1);
    await until("an answer", () => sentBy(client) > before);
    client.write("on");
    const [said] = await once(client, "data") as [Buffer];
    expect(said.toString()).toBe("on");
  });

  it("is sent to in one go with others, also where the kernel has no way to some", async () => {
    const { client, serverPort } = await connection("127.0.0.1");
    const address = parseAddress("127.0.0.1")!.bytes;
    const end = { source: address, sourcePort: client.localPort!, destination: address, destinationPort: serverPort, protocol: 6 };
    const nowhere = { ...end, source: parseAddress("0.0.0.0")!.bytes.with(12, 255).with(13, 255).with(14, 255).with(15, 255) };
    const before = sentBy(client);
    const packets = Buffer.concat([segmentTo(nowhere, SYN, random), segmentTo(end, SYN, random)]);
    // Broadcasts take a socket that asked for it.
    expect(loadNative(ADDON_PATH).sendPackets(Uint8Array.from(packets))).toBe(1);
    await until("an answer", () => sentBy(client) > before);
  });
});
