// A backend that can serve so many requests at once, each of which takes so long; the others wait in line. A
// connection is a request, and its answer the server's name. It sleeps instead of working, so that how slow it is
// does not depend on what else the machine does.
//
//   slow_server NAME FIRST_PORT PORTS WORKERS SERVICE_MS

import { createServer, type Socket } from "node:net";

const [, , name = "", firstPort = "0", ports = "0", workers = "1", serviceMs = "0"] = process.argv;
const waiting: Socket[] = [];
let idle = Number(workers);

function serveNext(): void {
  const socket = waiting.shift();
  if (socket === undefined) {
    idle += 1;
    return;
  }
  setTimeout(() => {
    socket.end(`${name}\n`);
    serveNext();
  }, Number(serviceMs));
}

for (let port = Number(firstPort); port < Number(firstPort) + Number(ports); port++) {
  const server = createServer((socket) => {
    socket.on("error", () => { socket.destroy(); });
    socket.resume();
    waiting.push(socket);
    if (idle === 0) return;
    idle -= 1;
    serveNext();
  });
  await new Promise<void>((resolve) => { server.listen({ port, host: "::", backlog: 1024 }, resolve); });
}
process.stdout.write("ready\n");
