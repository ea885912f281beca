// A load balancer in twenty lines: two backends on loopback, one service, events as they happen.
import { once } from "node:events";
import { createServer } from "node:http";
import { createPointsman } from "pointsman";

const port = Number(process.argv[2] ?? 8080);
const servers = ["a", "b"].map((name) => createServer((_, response) => response.end(name)).listen(0, "127.0.0.1"));
await Promise.all(servers.map((server) => once(server, "listening")));
const backends = servers.map((server, i) => ({ name: `web-${i}`, address: "127.0.0.1", port: server.address().port }));
const web = { name: "web", address: "127.0.0.1", port, protocol: "tcp", forwarding: "fullnat", backends };
const config = { version: 1, dataplane: { mode: "proxy" }, observe: { listen: "none" }, services: [web] };
const pointsman = await createPointsman({ config, stateDirectory: null, control: false });
for (let i = 0; i < 4; i++) console.log(await (await fetch(`http://127.0.0.1:${port}/`)).text());
await pointsman.override({ target: "web-0", change: { kind: "drain" }, actor: "example" });
console.log(pointsman.status().backends.map(({ name, state }) => `${name} ${state}`).join(", "));
await pointsman.close();
for (const server of servers) server.close();
