// A probe that asks for no more than a connection. Must never send a byte.

import type { TcpHealth } from "../../model/health_check.ts";
import type { Attempt } from "./attempt.ts";
import { failure, success, verdictOf } from "./attempt.ts";
import type { Aim, Doors } from "./socket.ts";
import { discard, openSocket } from "./socket.ts";

export function probeTcp(doors: Doors, aim: Aim<TcpHealth>, attempt: Attempt): void {
  const socket = openSocket(doors, aim);
  attempt.release = () => { discard(socket, aim); };
  socket.once("connect", () => { attempt.end(success("connected")); });
  socket.once("error", (error) => { attempt.end(verdictOf(error)); });
  socket.once("close", () => { attempt.end(failure("connection closed")); });
}
