// Sockets that the addon opens with a mark and Node takes over: bound where they say, connected as any,
// refused as any, and a fit base for TLS. On the loopback; that the mark leads somewhere is shown in the lab.

import { createServer as createHttpsServer, request } from "node:https";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, expect, it } from "vitest";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { createEnv } from "../../src/env_real.ts";
import { addressBytes } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { parseAddress } from "../../src/model/address.ts";
import { createCertificate } from "../support/certificate.ts";
import { ADDON_PATH, describeKernel } from "../support/kernel.ts";

const MARK = 0x7000_0001;
const DAY_MS = 86_400_000;
const { net } = createEnv({ logLevel: "error" });

describeKernel("sockets with a mark", ["capabilities", "addon"], () => {
  const opened: { close(): void }[] = [];
  afterEach(() => { for (const each of opened.splice(0)) each.close(); });

  async function listen(server: Server, host: string): Promise<number> {
    opened.push(server);
    await new Promise<void>((resolve) => { server.listen(0, host, resolve); });
    return (server.address() as AddressInfo).port;
  }

  function open(host: string): { readonly socket: Socket; readonly port: number } {
    const { descriptor, port } = loadNative(ADDON_PATH).openMarkedSocket(addressBytes(parseAddress(host)!), MARK);
    const socket = net.adopt(descriptor);
    opened.push({ close: () => { socket.destroy(); } });
    return { socket, port };
  }

  it.each(["127.0.0.1", "::1"])("connect from %s and the port that was said, both ways", async (host) => {
    const server = createServer((socket) => { socket.end(String(socket.remotePort)); });
    const to = await listen(server, host);
    const { socket, port } = open(host);
    const said = new Promise<string>((resolve, reject) => {
      let text = "";
      socket.on("data", (chunk: Buffer) => { text += chunk.toString(); });
      socket.on("end", () => { resolve(text); });
      socket.on("error", reject);
    });
    socket.connect({ host, port: to });
    expect(await said).toBe(String(port));
  });

  it("are refused where nobody listens", async () => {
    const to = await listen(createServer(), "127.0.0.1");
    await new Promise<void>((resolve) => { (opened.pop() as Server).close(() => { resolve(); }); });
    const { socket } = open("127.0.0.1");
    const failed = new Promise((resolve) => { socket.on("error", resolve); });
    socket.connect({ host: "127.0.0.1", port: to });
    expect(await failed).toMatchObject({ code: "ECONNREFUSED" });
  });

  it("carry TLS", async () => {
    const certificate = createCertificate("web.example", new Date(Date.now() - DAY_MS), new Date(Date.now() + DAY_MS));
    const to = await listen(createHttpsServer(certificate, (_, response) => { response.end("well"); }), "127.0.0.1");
    const { socket } = open("127.0.0.1");
    socket.connect({ host: "127.0.0.1", port: to });
    const tls = net.connectTls({ socket, rejectUnauthorized: false });
    const status = await new Promise((resolve, reject) => {
      request({ createConnection: () => tls, path: "/" }, (response) => {
        response.resume();
        resolve(response.statusCode);
      }).on("error", reject).end();
    });
    expect(status).toBe(200);
    tls.destroy();
  });

  it("cannot be had at an address that this host lacks", () => {
    expect(() => open("192.0.2.1")).toThrow(expect.objectContaining({ code: "SYSTEM", operation: "openMarkedSocket" }));
  });
});
