// The lab's client for what curl cannot do: datagrams and connections from many ports, and byte streams
// that are checked. Prints one line per answer. Every loop is bounded in count and time.
//
//   udp ADDRESS PORT COUNT [BYTES]  COUNT datagrams, of so many bytes, a socket each; prints who answered
//   tcp ADDRESS PORT COUNT        COUNT GET / requests, a connection each; prints who answered
//   hold ADDRESS PORT COUNT SECONDS  COUNT connections to an echo server that each send and check a
//                                 line every 100 ms; prints "held N, broken M"
//   stream ADDRESS PORT COUNT SECONDS  numbered datagrams over SECONDS from COUNT ports; prints
//                                 "sent N, answered M, moved K" after the last answers had time to come:
//                                 K of the ports heard from more than one backend
//
// SECONDS 0: until SIGTERM.

import { createSocket } from "node:dgram";
import { connect } from "node:net";
import type { Socket } from "node:net";

const [, , what = "", address = "", portText = "0", countText = "0", lastText = ""] = process.argv;
const secondsText = lastText === "" ? "5" : lastText;
const port = Number(portText);
const count = Number(countText);
const ANSWER_MS = 2000;
const seconds = secondsText === "0" ? Infinity : Number(secondsText);
let isOver = false;
process.once("SIGTERM", () => { isOver = true; });
/** Sockets open at once. */
const PARALLEL = 64;

async function inParallel(one: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: Math.min(PARALLEL, count) }, async () => {
      while (next < count) await one(next++);
    }),
  );
}

/** Sends, and again after a while (the first may be lost while a neighbour is resolved), until answered. */
function askByUdp(index: number): Promise<void> {
  return new Promise((resolve) => {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    // Padded with what tells one place from another.
    const question = `datagram ${index}`.padEnd(what === "udp" ? Number(lastText) : 0, " 0123456789");
    const send = (): void => {
      socket.send(question, port, address);
    };
    const again = setInterval(send, ANSWER_MS / 4);
    const end = (answer: string): void => {
      clearInterval(again);
      clearTimeout(patience);
      socket.close();
      if (answer !== "") process.stdout.write(`${answer}\n`);
      resolve();
    };
    const patience = setTimeout(() => {
      end("");
    }, ANSWER_MS);
    socket.on("error", () => {
      end("");
    });
    socket.on("message", (message) => {
      const [name = "", ...rest] = message.toString().split("\n");
      end(rest.join("\n") === question ? name : "corrupt");
    });
    send();
  });
}

function askByTcp(): Promise<void> {
  return new Promise((resolve) => {
    let said = "";
    const socket = connect({ host: address, port });
    socket.setTimeout(ANSWER_MS, () => socket.destroy());
    socket.on("data", (chunk) => {
      said += chunk.toString();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      const body = said.split("\r\n\r\n")[1];
      if (body !== undefined)
        process.stdout.write(
          body
            .split("\r\n")
            .find((line) => line.includes("\n") || line.length > 2)
            ?.trim()
            .concat("\n") ?? "",
        );
      resolve();
    });
    socket.write("GET / HTTP/1.0\r\nHost: lab\r\nConnection: close\r\n\r\n");
  });
}

interface Held {
  socket: Socket;
  sent: string;
  received: string;
  broken: boolean;
}

async function hold(): Promise<void> {
  const held: Held[] = Array.from({ length: count }, () => {
    const one: Held = { socket: connect({ host: address, port }), sent: "", received: "", broken: false };
    one.socket.on("data", (chunk) => {
      one.received += chunk.toString();
    });
    one.socket.on("error", () => {
      one.broken = true;
    });
    one.socket.on("close", () => {
      one.broken = true;
    });
    return one;
  });
  process.stdout.write("holding\n");
  const rounds = Math.round(seconds * 10);
  for (let round = 0; round < rounds && !isOver; round++) {
    held.forEach((one, index) => {
      if (one.broken) return;
      const line = `connection ${index} round ${round}\n`;
      one.sent += line;
      one.socket.write(line);
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const patience = Date.now() + 10_000;
  while (held.some((one) => !one.broken && one.received.length < one.sent.length) && Date.now() < patience) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const broken = held.filter((one) => one.broken || one.received !== one.sent).length;
  process.stdout.write(`held ${count - broken}, broken ${broken}\n`);
  for (const one of held) one.socket.destroy();
}

/** Datagrams per second from each port. */
const STREAM_RATE = 50;

async function stream(): Promise<void> {
  let sent = 0;
  const answered = new Set<string>();
  const names = Array.from({ length: count }, () => new Set<string>());
  const sockets = Array.from({ length: count }, (_, index) => {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    socket.on("message", (message) => {
      const [name = "", number = ""] = message.toString().split("\n");
      names[index]?.add(name);
      answered.add(`${index} ${number}`);
    });
    socket.on("error", () => undefined);
    return socket;
  });
  process.stdout.write("streaming\n");
  const begin = Date.now();
  // The number due is a function of the clock, so that a late timer does not slow the stream down.
  for (let due = 0; due < seconds * STREAM_RATE && !isOver;) {
    await new Promise((resolve) => setTimeout(resolve, 1000 / STREAM_RATE));
    due = Math.min(seconds * STREAM_RATE, Math.floor(((Date.now() - begin) * STREAM_RATE) / 1000));
    for (; sent < due * count; sent++) sockets[sent % count]?.send(String(Math.floor(sent / count)), port, address);
  }
  const patience = Date.now() + 3000;
  while (answered.size < sent && Date.now() < patience) await new Promise((resolve) => setTimeout(resolve, 20));
  const moved = names.filter(({ size }) => size > 1).length;
  process.stdout.write(`sent ${sent}, answered ${answered.size}, moved ${moved}\n`);
  for (const socket of sockets) socket.close();
}

if (what === "udp") await inParallel(askByUdp);
else if (what === "tcp") await inParallel(askByTcp);
else if (what === "hold") await hold();
else if (what === "stream") await stream();
else {
  process.stderr.write("usage: lab_client udp|tcp|hold|stream ADDRESS PORT COUNT [BYTES|SECONDS]\n");
  process.exitCode = 2;
}
