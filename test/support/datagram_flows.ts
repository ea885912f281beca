// Clients of a UDP service that number their datagrams, and a backend that knows each by its source port, as
// servers of games and tunnels do: for tests of what a flow loses, or gets twice, or is torn from.

import { createSocket, type Socket } from "node:dgram";

export class DatagramEcho {
  readonly port: number;
  readonly #socket: Socket;
  /** By the client's name: the ports that it came from, in their order, and how often each number came. */
  readonly #clients = new Map<string, { readonly ports: number[]; readonly numbers: Map<number, number> }>();

  private constructor(socket: Socket, delayMs: (number: number) => number) {
    this.#socket = socket;
    this.port = socket.address().port;
    socket.on("message", (datagram, from) => {
      const [name = "", number = ""] = datagram.toString("latin1").split(" ");
      this.#note(name, Number(number), from.port);
      const answer = (): void => { socket.send(`${datagram.toString("latin1")} ${from.port}`, from.port, from.address); };
      const ms = delayMs(Number(number));
      if (ms === 0) answer();
      else setTimeout(() => { if (!this.#isClosed) answer(); }, ms);
    });
  }

  #isClosed = false;

  /** `delayMs`: before the answer to a datagram of this number. */
  static async open(host: string, delayMs: (number: number) => number = () => 0): Promise<DatagramEcho> {
    const socket = createSocket({ type: host.includes(":") ? "udp6" : "udp4", recvBufferSize: 4 << 20 });
    await new Promise<void>((resolve) => { socket.bind(0, host, resolve); });
    return new DatagramEcho(socket, delayMs);
  }

  portsOf(name: string): readonly number[] {
    return this.#clients.get(name)?.ports ?? [];
  }

  /** "NAME NUMBER" of what came more than once. */
  repeated(): string[] {
    return [...this.#clients].flatMap(([name, { numbers }]) =>
      [...numbers].flatMap(([number, times]) => (times > 1 ? [`${name} ${number}`] : [])));
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return new Promise((resolve) => { this.#socket.close(() => { resolve(); }); });
  }

  #note(name: string, number: number, port: number): void {
    const client = this.#clients.get(name) ?? { ports: [], numbers: new Map<number, number>() };
    this.#clients.set(name, client);
    if (client.ports.at(-1) !== port) client.ports.push(port);
    client.numbers.set(number, (client.numbers.get(number) ?? 0) + 1);
  }
}

/** What has no answer by then has none. */
const LOST_MS = 5000;

/** One client: it sends the next datagram when it has the answer to the last one. */
export class DatagramFlow {
  answered = 0;
  /** Numbers without an answer. */
  readonly lost: number[] = [];
  /** Answers that nobody waited for. */
  readonly unasked: string[] = [];
  readonly #socket: Socket;
  readonly #pauseMs: number;
  readonly name: string;
  #number = 0;
  #isStopped = false;
  #timer: NodeJS.Timeout | undefined;
  #onStep: (() => void)[] = [];
  readonly #closed: Promise<void>;

  constructor(name: string, host: string, port: number, pauseMs = 2) {
    this.name = name;
    this.#pauseMs = pauseMs;
    this.#socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    this.#socket.connect(port, host, () => { this.#next(); });
    this.#socket.on("error", () => { /* a closed port: the loss is seen */ });
    this.#socket.on("message", (answer) => { this.#hear(answer.toString("latin1")); });
    this.#closed = new Promise((resolve) => { this.#socket.once("close", resolve); });
  }

  /** Resolves after so many more answers, or losses. */
  async goesOn(count = 3): Promise<void> {
    for (let step = 0; step < count && !this.#isStopped; step += 1) {
      await new Promise<void>((resolve) => { this.#onStep.push(resolve); });
    }
  }

  /** After the answer that it waits for. */
  async stop(): Promise<void> {
    if (!this.#isStopped) await this.goesOn(1);
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#socket.close();
    await this.#closed;
  }

  /** At once. */
  async abort(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    clearTimeout(this.#timer);
    for (const tell of this.#onStep.splice(0)) tell();
    this.#socket.close();
    await this.#closed;
  }

  #next(): void {
    if (this.#isStopped) return;
    this.#number += 1;
    const number = this.#number;
    this.#timer = setTimeout(() => {
      this.lost.push(number);
      this.#step();
      this.#next();
    }, LOST_MS);
    this.#socket.send(`${this.name} ${number}`);
  }

  #hear(answer: string): void {
    const [name, number] = answer.split(" ");
    if (name !== this.name || Number(number) !== this.#number || this.lost.includes(this.#number)) {
      this.unasked.push(answer);
      return;
    }
    this.answered += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { this.#next(); }, this.#pauseMs);
    this.#step();
  }

  #step(): void {
    const waiting = this.#onStep;
    this.#onStep = [];
    for (const tell of waiting) tell();
  }
}
