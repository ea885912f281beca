// A connection of the lab's clients to a server that says its name and then repeats what it hears, line by line.
// Knows lines, silence and how a connection broke; what is said, and when, is the client's business.

import { connect } from "node:net";
import type { Socket, TcpNetConnectOpts } from "node:net";

export class Conversation {
  readonly #silentMs: number;
  readonly #socket: Socket;
  #reason: string | null = null;
  #port = 0;
  #unread = "";
  #wake: (() => void) | null = null;

  /** `silentMs`: who says nothing for so long when something is due has broken. */
  constructor(options: TcpNetConnectOpts, silentMs: number) {
    this.#silentMs = silentMs;
    this.#socket = connect(options);
    this.#socket.setEncoding("latin1").setNoDelay(true);
    this.#socket.on("connect", () => { this.#port = this.#socket.localPort ?? 0; });
    this.#socket.on("data", (chunk: string) => { this.#unread += chunk; this.#wake?.(); });
    this.#socket.on("error", (error: NodeJS.ErrnoException) => { this.#fail(error.code ?? error.message); });
    this.#socket.on("close", () => { this.#fail("closed"); });
  }

  /** How it broke, or null. */
  get reason(): string | null { return this.#reason; }

  /** Its own; 0: it never got a connection. */
  get port(): number { return this.#port; }

  /** The next line; null: there will be none. */
  async line(): Promise<string | null> {
    const silent = setTimeout(() => { this.#fail("silent"); }, this.#silentMs);
    while (!this.#unread.includes("\n") && this.#reason === null)
      await new Promise<void>((resolve) => { this.#wake = resolve; });
    clearTimeout(silent);
    const at = this.#unread.indexOf("\n");
    if (at < 0) return null;
    const line = this.#unread.slice(0, at);
    this.#unread = this.#unread.slice(at + 1);
    return line;
  }

  /** Whether this line comes back as it is; what comes instead is a reason. */
  async repeats(text: string): Promise<boolean> {
    this.#socket.write(`${text}\n`);
    const answer = await this.line();
    if (answer !== null && answer !== text) this.#fail(`"${answer.slice(0, 100)}" for "${text.slice(0, 100)}"`);
    return answer === text;
  }

  /** In order: no reason to be broken. */
  end(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }

  #fail(reason: string): void {
    this.#reason ??= reason;
    this.#wake?.();
  }
}
