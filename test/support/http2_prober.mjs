// A process that probes one port by HTTP/2 and gRPC many times, as the built supervisor would, and says how the last probe
// went: for servers whose answers might end the process itself. Arguments: the port, the number of probes of each kind.

const built = new URL("../../dist/src/", import.meta.url);
const { createEnv } = await import(new URL("env_real.js", built).href);
const { createProbe } = await import(new URL("health/probe.js", built).href);
const { parseAddress } = await import(new URL("model/address.js", built).href);

const SIDE_BY_SIDE = 16;
const [port, count] = process.argv.slice(2).map(Number);
const TIMING = { intervalMs: 5000, timeoutMs: 5000, rise: 1, fall: 1, jitter: 0, port: null, via: "direct", source: null };
const KINDS = [
  { type: "http", version: 2, method: "GET", path: "/", host: null, headers: [], statuses: [{ from: 200, to: 299 }], body: null,
    bodyMatches: null, json: [], drainHeader: null, tls: null, ...TIMING },
  { type: "grpc", service: "", host: null, tls: null, ...TIMING },
];

const probe = createProbe(createEnv({ logLevel: "error" }), () => "a direct probe goes through nothing");
const signal = new AbortController().signal;
for (const health of KINDS) {
  const target = { name: "p/b", pool: "p", backend: "b", address: parseAddress("127.0.0.1"), port, health, through: [] };
  let left = count ?? 0;
  let reason = "";
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, async () => {
    for (; left > 0; left -= 1) ({ reason } = await probe(target, signal));
  }));
  process.stdout.write(`${health.type}: ${reason}\n`);
}
process.exit(0);
