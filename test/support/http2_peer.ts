// The process with Node's HTTP/2 servers (http2_peer.mjs) from the tests' side. A peer that ends too early fails the
// test that waits for it, and nothing else.

import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll } from "vitest";
import type { TestCertificate } from "./certificate.ts";

/** What a server says to each request. */
export interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** In base64. */
  readonly body?: string;
  readonly trailers?: Readonly<Record<string, string>>;
  /** Statuses of responses before the one that counts. */
  readonly interim?: readonly number[];
  /** What follows the body instead of its end. */
  readonly then?: "hang" | "destroy";
  /** Resets the request instead, with this error code. */
  readonly reset?: number;
}

/** What the health service of a gRPC server says, by service; a number is a gRPC error. */
export type Says = Readonly<Record<string, "SERVING" | "NOT_SERVING" | "UNKNOWN" | number>>;

export type Order =
  | { readonly do: "listen"; readonly host: string; readonly certificate: TestCertificate | null; readonly protocols: readonly string[] }
  | { readonly do: "grpc"; readonly host: string; readonly certificate: TestCertificate | null; readonly says: Says | null }
  | { readonly do: "answer"; readonly port: number; readonly answer: Answer }
  | { readonly do: "asked" | "complaints"; readonly port: number };

interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

export const base64 = (text: string | Uint8Array): string => Buffer.from(text).toString("base64");

export class Http2Peer {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #lastId = 0;

  constructor() {
    this.#child = fork(fileURLToPath(new URL("./http2_peer.mjs", import.meta.url)), { execArgv: [] });
    this.#child.on("message", (reply: Reply) => {
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if (reply.error === undefined) waiting?.resolve(reply.value);
      else waiting?.reject(new Error(reply.error));
    });
    this.#child.on("exit", (code, signal) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the peer has ended: ${signal ?? code}`));
    });
  }

  /** A server of Node's; answers with 200 until it is told otherwise. Returns its port. */
  async listen(how: { host?: string; certificate?: TestCertificate; protocols?: readonly string[]; answer?: Answer } = {}): Promise<number> {
    const { host = "127.0.0.1", certificate = null, protocols = ["h2"], answer } = how;
    const port = await this.#order({ do: "listen", host, certificate, protocols }) as number;
    if (answer !== undefined) await this.answer(port, answer);
    return port;
  }

  /** A gRPC library's server; null: without a health service. Returns its port. */
  async grpc(says: Says | null, how: { host?: string; certificate?: TestCertificate } = {}): Promise<number> {
    const { host = "127.0.0.1", certificate = null } = how;
    return await this.#order({ do: "grpc", host, certificate, says }) as number;
  }

  async answer(port: number, answer: Answer): Promise<void> {
    await this.#order({ do: "answer", port, answer });
  }

  /** The headers of each request so far, or its service of gRPC. */
  async asked(port: number): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return await this.#order({ do: "asked", port }) as readonly Readonly<Record<string, unknown>>[];
  }

  /** What was wrong with sessions so far. */
  async complaints(port: number): Promise<readonly string[]> {
    return await this.#order({ do: "complaints", port }) as readonly string[];
  }

  close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return Promise.resolve();
    const ended = new Promise<void>((resolve) => { this.#child.once("exit", () => { resolve(); }); });
    this.#child.disconnect();
    return ended;
  }

  #order(order: Order): Promise<unknown> {
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, order }, (error) => { if (error !== null) reject(error); });
    });
  }
}

/** One for the tests of a file, there from its first test on. */
export function usePeer(): () => Http2Peer {
  let peer: Http2Peer | null = null;
  beforeAll(() => { peer = new Http2Peer(); });
  afterAll(async () => { await peer?.close(); });
  return () => peer!;
}
