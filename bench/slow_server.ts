// A backend that can serve so many requests at once, each of which takes so long; the others wait in line. A
// connection is a request, and its answer the server's name. It sleeps instead of working, so that how slow it is
// does not depend on what else the machine does.
//
// At the port after the last, HTTP probes wait in the same line.
//
//   slow_server NAME FIRST_PORT PORTS WORKERS SERVICE_MS

import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";

const [, , name = "", firstPort = "0", ports = "0", workers = "1", serviceMs = "0"] = process.argv;
/** What answers them. */
const waiting: (() => void)[] = [];
let idle = Number(workers);

function serveNext(): void {
  const answer = waiting.shift();
  if (answer === undefined) {
    idle += 1;
    return;
  }
  setTimeout(() => {
    answer();
    serveNext();
  }, Number(serviceMs));
}

function take(answer: () => void): void {
  waiting.push(answer);
  if (idle === 0) return;
  idle -= 1;
  serveNext();
}

for (let port = Number(firstPort); port < Number(firstPort) + Number(ports); port++) {
  const server = createServer((socket) => {
    socket.on("error", () => { socket.destroy(); });
    socket.resume();
    take(() => { socket.end(`${name}\n`); });
  });
  await new Promise<void>((resolve) => { server.listen({ port, host: "::", backlog: 1024 }, resolve); });
}
const probed = createHttpServer((_, response) => { take(() => { response.end(); }); });
await new Promise<void>((resolve) => { probed.listen({ port: Number(firstPort) + Number(ports), host: "::" }, resolve); });
process.stdout.write("ready\n");
