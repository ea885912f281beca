// The backends of the schedule benchmark: every address of a prefix, at one port, by one process that does as
// little as it can. Writes down when a probe came for which address. A line on standard input is answered by
// all that came since the line before: one line of JSON, pairs of the address's place and milliseconds (wall clock).
//
//   schedule_server PORT

import { createServer } from "node:net";
import { createInterface } from "node:readline";

const [, , port = "0"] = process.argv;
const ANSWER = Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
let came: [number, number][] = [];

const server = createServer((socket) => {
  const [, , c = "0", d = "0"] = (socket.localAddress ?? "").replace(/^.*:/, "").split(".");
  came.push([Number(c) * 256 + Number(d), performance.timeOrigin + performance.now()]);
  socket.on("error", () => { socket.destroy(); });
  socket.on("data", () => { socket.end(ANSWER); });
});
server.listen({ port: Number(port), host: "0.0.0.0", backlog: 4096 }, () => { process.stdout.write("ready\n"); });

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "") continue;
  process.stdout.write(`${JSON.stringify(came)}\n`);
  came = [];
}
process.exit(0);
