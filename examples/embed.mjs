// A load balancer in twenty lines: two backends on loopback, one service, events as they happen.
import { createServer } from "node:http";
import { once } from "node:events";
import { createPointsman } from "pointsman";

const serve = async (name) => {
  const server = createServer((_, response) => response.end(name)).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
};
const servers = await Promise.all(["a", "b"].map(serve));
const port = Number(process.env.PORT ?? 8080);
const backends = servers.map((server, i) => ({ name: `web-${i}`, address: "127.0.0.1", port: server.address().port }));
const service = { name: "web", address: "127.0.0.1", port, protocol: "tcp", forwarding: "fullnat", health: { type: "tcp", interval: "1s" }, backends };
const config = { version: 1, instance: "embed", dataplane: { mode: "proxy" }, observe: { listen: "none" }, services: [service] };
const pointsman = await createPointsman({ config, stateDirectory: null, control: false });
for (let i = 0; i < 4; i++) console.log(await (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } })).text());
await pointsman.override({ target: "web-0", change: { kind: "drain" }, actor: "example" });
console.log(pointsman.status().backends.map((backend) => `${backend.name} ${backend.state}`).join(", "));
await pointsman.close();
for (const server of servers) server.close();
