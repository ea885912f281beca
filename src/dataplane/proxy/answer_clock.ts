// The clock of one flow for `least-response-time`: from the attempt to connect to the backend's first bytes. Knows two
// sockets of a connection, or datagrams as they pass; must never change what goes through them.

import type { Socket } from "node:net";
import type { Service } from "../../model/table.ts";
import type { ProxyContext } from "./context.ts";

export class AnswerClock {
  readonly #context: Pick<ProxyContext, "env" | "latencies">;
  readonly #backend: string;
  /** What a failure counts as: who fails fast is not to look fast. */
  readonly #failedMs: number;
  #sinceMs: number;
  /** The client has asked, or is to hear first. */
  #isAsked = false;
  #isOver = false;

  /** Null where nobody wants to know. */
  static start(context: ProxyContext, service: Service, backend: string): AnswerClock | null {
    return service.picking?.by === "least-response-time" ? new AnswerClock(context, service, backend) : null;
  }

  private constructor(context: ProxyContext, { config }: Service, backend: string) {
    this.#context = context;
    this.#backend = backend;
    this.#failedMs = config.proxy.connectTimeoutMs;
    this.#sinceMs = context.env.clock.monotonicMs();
  }

  /** The backend has accepted: waits for its first bytes, from the client's first on or, where it speaks first, from now. */
  join(client: Socket, backend: Socket): void {
    this.#context.latencies.connected(this.#backend, this.#lap());
    client.once("data", () => { this.asked(); });
    backend.once("data", () => { this.answered(); });
    backend.once("end", () => { if (this.#isAsked) this.failed(); });
    backend.once("error", () => { this.failed(); });
    client.once("close", () => { this.#isOver = true; });
  }

  asked(): void {
    if (this.#isAsked || this.#isOver) return;
    this.#isAsked = true;
    this.#lap();
  }

  answered(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#context.latencies.answered(this.#backend, this.#lap());
  }

  /** It did not accept, or left without an answer. */
  failed(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#context.latencies.answered(this.#backend, Math.max(this.#failedMs, this.#lap()));
  }

  /** Called now and then: what is not answered yet says something, too. */
  sweep(nowMs: number): void {
    if (this.#isAsked && !this.#isOver) this.#context.latencies.waits(this.#backend, nowMs - this.#sinceMs);
  }

  /** Since the start or the last call. */
  #lap(): number {
    const nowMs = this.#context.env.clock.monotonicMs();
    const ms = nowMs - this.#sinceMs;
    this.#sinceMs = nowMs;
    return ms;
  }
}
