// The HTTP listener for machines: /metrics for Prometheus, /healthz (the process answers) and /readyz
// (it serves what it should). Plain text, no state. Knows the supervisor's status and the registry.

import fastify from "fastify";
import { Failure } from "../errors.ts";
import type { Address } from "../model/address.ts";
import { formatEndpoint } from "../model/address.ts";
import type { Supervisor } from "../supervisor/contract.ts";
import { createRegistry } from "./metrics.ts";

export interface ObserveServer {
  /** "address:port" as bound. */
  readonly endpoint: string;
  close(): Promise<void>;
}

/** Listens; throws PORT_IN_USE, ADDRESS_NOT_LOCAL or PERMISSION_DENIED. */
export async function startObserveServer(
  supervisor: Supervisor,
  listen: { readonly address: Address; readonly port: number },
): Promise<ObserveServer> {
  const registry = createRegistry(supervisor);
  const server = fastify({ logger: false, forceCloseConnections: true });
  server.get("/metrics", async (_request, reply) => {
    const text = await registry.metrics();
    return reply.type(registry.contentType).send(text);
  });
  server.get("/healthz", (_request, reply) => reply.type("text/plain").send("ok\n"));
  server.get("/readyz", (_request, reply) => {
    const { ready, reasons } = supervisor.status();
    return reply
      .code(ready ? 200 : 503)
      .type("text/plain")
      .send(ready ? "ready\n" : reasons.map((reason) => `${reason}\n`).join(""));
  });
  const endpoint = formatEndpoint(listen.address, listen.port);
  try {
    await server.listen({ host: listen.address.text, port: listen.port });
  } catch (error) {
    await server.close();
    throw listenFailure(endpoint, error);
  }
  const bound = server.server.address();
  return {
    // Port 0 is any free one; what was bound is what people need to know.
    endpoint: typeof bound === "object" && bound !== null ? formatEndpoint(listen.address, bound.port) : endpoint,
    close: () => server.close(),
  };
}

function listenFailure(endpoint: string, error: unknown): Failure {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const remedy = "set observe.listen to another address and port, or to none";
  if (code === "EADDRINUSE")
    return new Failure("PORT_IN_USE", { address: endpoint }, `observe.listen: ${endpoint} is in use; ${remedy}`, error);
  if (code === "EADDRNOTAVAIL")
    return new Failure(
      "ADDRESS_NOT_LOCAL",
      { address: endpoint },
      `observe.listen: ${endpoint} is not an address of this host; ${remedy}`,
      error,
    );
  if (code === "EACCES")
    return new Failure(
      "PERMISSION_DENIED",
      { operation: `listen on ${endpoint}`, capability: "CAP_NET_BIND_SERVICE" },
      `observe.listen: no permission for ${endpoint}; ${remedy}`,
      error,
    );
  return new Failure(
    "SYSTEM",
    { operation: `listen on ${endpoint}` },
    `observe.listen: ${endpoint}: ${String(error)}; ${remedy}`,
    error,
  );
}
