// Servers of Node's HTTP/2 and of a gRPC library, in a process of their own: what is theirs in C++ can abort on a
// connection that ends at the wrong moment, and would take a worker of the tests along. Does what its parent asks by
// messages (http2_peer.ts), and ends with it.

import { Server as GrpcServer, ServerCredentials } from "@grpc/grpc-js";
import { createSecureServer, createServer } from "node:http2";

/** @typedef {import("./http2_peer.ts").Answer} Answer @typedef {import("./http2_peer.ts").Order} Order */
/** @typedef {{ answer: Answer, asked: Record<string, unknown>[], complaints: string[] }} Site */

/** @type {Map<number, Site>} by port */
const sites = new Map();
const SERVED = { UNKNOWN: "", SERVING: "0801", NOT_SERVING: "0802" };

/** @param {import("node:http2").ServerHttp2Stream} stream @param {Answer} answer */
function respond(stream, answer) {
  stream.on("error", () => { /* the probe is gone, or we are */ });
  stream.resume();
  if (answer.reset !== undefined) {
    stream.close(answer.reset);
    return;
  }
  for (const status of answer.interim ?? []) stream.additionalHeaders({ ":status": status });
  const { trailers } = answer;
  stream.respond({ ":status": answer.status ?? 200, ...answer.headers }, { waitForTrailers: trailers !== undefined });
  stream.on("wantTrailers", () => { stream.sendTrailers(trailers ?? {}); });
  const body = Buffer.from(answer.body ?? "", "base64");
  if (answer.then === undefined) stream.end(body);
  else if (body.length > 0) stream.write(body);
  if (answer.then === "destroy") setTimeout(() => { stream.session?.destroy(); }, 30);
}

/** @param {Extract<Order, { do: "listen" }>} order @returns {Promise<number>} the port */
function listen({ host, certificate, protocols }) {
  const server = certificate === null ? createServer() : createSecureServer({ ...certificate, ALPNProtocols: protocols });
  /** @type {Site} */
  const site = { answer: {}, asked: [], complaints: [] };
  server.on("stream", (/** @type {import("node:http2").ServerHttp2Stream} */ stream, /** @type {import("node:http2").IncomingHttpHeaders} */ headers) => {
    site.asked.push({ ...headers });
    respond(stream, site.answer);
  });
  server.on("sessionError", (error) => { site.complaints.push(error.message); });
  return new Promise((resolve) => {
    server.listen(0, host, () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      sites.set(port, site);
      resolve(port);
    });
  });
}

/** @param {Extract<Order, { do: "grpc" }>} order @returns {Promise<number>} the port */
function serveGrpc({ host, certificate, says }) {
  const server = new GrpcServer();
  /** @type {Site} */
  const site = { answer: {}, asked: [], complaints: [] };
  const asIs = (/** @type {Buffer} */ value) => value;
  if (says !== null) {
    server.addService({
      check: {
        path: "/grpc.health.v1.Health/Check", requestStream: false, responseStream: false,
        requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs,
      },
    }, {
      check: (/** @type {import("@grpc/grpc-js").ServerUnaryCall<Buffer, Buffer>} */ call,
        /** @type {import("@grpc/grpc-js").sendUnaryData<Buffer>} */ answer) => {
        const service = call.request.subarray(call.request.length > 0x80 ? 3 : 2).toString();
        site.asked.push({ service });
        const said = says[service];
        if (said === undefined) answer({ code: 5, details: "unknown service ☹" });
        else if (typeof said === "number") answer({ code: said, details: "" });
        else answer(null, Buffer.from(SERVED[said], "hex"));
      },
    });
  }
  const credentials = certificate === null ? ServerCredentials.createInsecure()
    : ServerCredentials.createSsl(null, [{ private_key: Buffer.from(certificate.key), cert_chain: Buffer.from(certificate.cert) }]);
  return new Promise((resolve, reject) => {
    server.bindAsync(host.includes(":") ? `[${host}]:0` : `${host}:0`, credentials, (error, port) => {
      sites.set(port, site);
      if (error === null) resolve(port);
      else reject(error);
    });
  });
}

/** @param {Order} order @returns {Promise<unknown>} */
async function obey(order) {
  switch (order.do) {
    case "listen": return await listen(order);
    case "grpc": return await serveGrpc(order);
    case "answer": {
      const site = sites.get(order.port);
      if (site === undefined) throw new Error(`nobody listens on port ${order.port}`);
      site.answer = order.answer;
      return null;
    }
    case "asked": return sites.get(order.port)?.asked ?? [];
    case "complaints": return sites.get(order.port)?.complaints ?? [];
  }
}

process.on("disconnect", () => { process.exit(0); });
process.on("message", (/** @type {{ id: number, order: Order }} */ { id, order }) => {
  obey(order).then((value) => process.send?.({ id, value }), (error) => process.send?.({ id, error: String(error) }));
});
