// Mints and reads QUIC connection IDs for people and for servers: by a service of a config file, or by
// parameters alone. Knows how to lay answers out; never prints a key.

import { Failure } from "../errors.ts";
import { checkQuicKey, keyInFile, readQuicKey } from "../config/formats_quic.ts";
import type { Config, ServiceConfig } from "../model/config.ts";
import { hexBytes, hexText } from "../model/hex.ts";
import type { QuicLbConfig, QuicLbParameters } from "../model/quic_lb.ts";
import { cidBytes, configIdOf, decodeCid, encodeCid, quicLbConfig, quicLbFault } from "../model/quic_lb.ts";
import { quicParameters } from "../model/quic_servers.ts";
import { usesPool } from "../model/split.ts";
import { backendNames, resolveName } from "../supervisor/questions.ts";
import { readableQuicKeys } from "../supervisor/quic_keys.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { loadConfig } from "./offline.ts";
import { table } from "./table.ts";

interface SourceOptions {
  readonly output: "table" | "json";
  readonly config?: string;
  readonly service?: string;
  readonly configId?: number;
  readonly nonceBytes?: number;
  readonly key?: string;
}

export interface EncodeOptions extends SourceOptions {
  readonly backend?: string;
  readonly serverId?: string;
  readonly nonce?: string;
  readonly lengthEncoded: boolean;
  readonly count: number;
}

export interface DecodeOptions extends SourceOptions {
  readonly serverIdBytes?: number;
}

function refuse(path: string, message: string): Failure {
  return new Failure("REQUEST_INVALID", { path }, message);
}

/** Throws REQUEST_INVALID for what the draft does not allow. */
function ready(parameters: QuicLbParameters): QuicLbConfig {
  const fault = quicLbFault(parameters);
  if (fault !== null) throw refuse("quic-lb", fault);
  return quicLbConfig(parameters);
}

function keyOf(io: Io, text: string | undefined): Uint8Array | null {
  if (text === undefined) return null;
  const complaint = checkQuicKey(text);
  if (complaint !== null) throw refuse("key", `--key: ${complaint.reason}; ${complaint.hint ?? ""}`);
  const key = readQuicKey(text);
  if (key.from === "inline") return key.bytes;
  const content = readFile(io, key.path);
  const bytes = keyInFile(content);
  if (bytes === null) throw refuse("key", `${key.path} does not hold 32 hexadecimal digits`);
  return bytes;
}

function readFile(io: Io, path: string): Uint8Array {
  let content: Uint8Array | null;
  try {
    content = io.env.files.read(path);
  } catch (error) {
    throw new Failure("FILE_UNREADABLE", { path }, `${path} cannot be read: ${String(error)}`, error);
  }
  if (content === null) throw new Failure("FILE_UNREADABLE", { path }, `${path} cannot be read: there is no such file`);
  return content;
}

interface Chosen {
  readonly config: Config;
  readonly service: ServiceConfig;
}

/** The service of the file that is meant. */
function chooseService(io: Io, file: string, name: string | undefined): Chosen {
  const config = readableQuicKeys(loadConfig(io, file), io.env);
  const able = config.services.filter(({ quicLb }) => quicLb !== null);
  const names = able.map((each) => each.name).join(", ");
  const [first] = able;
  if (first === undefined) throw refuse("service", `no service of ${file} has quicLb`);
  if (name === undefined) {
    if (able.length > 1) throw refuse("service", `several services have quicLb: say --service, one of ${names}`);
    return { config, service: first };
  }
  const service = able.find((each) => each.name === name);
  if (service === undefined) throw refuse("service", `no service ${name} with quicLb; there are ${names}`);
  return { config, service };
}

function chooseConfig({ name, quicLb }: ServiceConfig, id: number | undefined): QuicLbConfig {
  const configs = quicLb?.configs ?? [];
  const ids = configs.map((each) => each.id).join(", ");
  if (id === undefined && configs.length > 1) {
    throw refuse("config-id", `${name} has several configs: say --config-id, one of ${ids}`);
  }
  const chosen = id === undefined ? configs[0] : configs.find((each) => each.id === id);
  if (chosen === undefined) throw refuse("config-id", `${name} has no config ${id ?? ""}; there are ${ids}`);
  const parameters = quicParameters(chosen);
  if (parameters === null) {
    const path = chosen.key?.from === "file" ? chosen.key.path : "";
    throw new Failure("FILE_UNREADABLE", { path }, `${path} cannot be read, or does not hold 32 hexadecimal digits`);
  }
  return ready(parameters);
}

interface Mint {
  readonly config: QuicLbConfig;
  readonly serverId: Uint8Array;
  /** "pool/backend". */
  readonly backend: string | null;
}

function mintFromFile(io: Io, file: string, options: EncodeOptions): Mint {
  const { config, service } = chooseService(io, file, options.service);
  const quic = chooseConfig(service, options.configId);
  const pools = config.pools.filter((each) => usesPool(service, each.name));
  if (options.backend === undefined) throw refuse("backend", "say --backend: whose connection IDs?");
  const backend = resolveName(options.backend, backendNames({ ...config, pools }));
  const [pool, name] = [backend.slice(0, backend.indexOf("/")), backend.slice(backend.indexOf("/") + 1)];
  const found = pools.find((each) => each.name === pool)?.backends.find((each) => each.name === name);
  const ids = (found?.serverIds ?? []).filter((each) => each.length === quic.serverIdBytes * 2);
  const serverId = options.serverId ?? ids[0];
  if (serverId === undefined || !ids.includes(serverId)) {
    throw refuse("server-id", `${backend} has no server ID ${options.serverId ?? `of ${quic.serverIdBytes} bytes`}`);
  }
  return { config: quic, serverId: hexBytes(serverId), backend };
}

function mintFromOptions(io: Io, options: EncodeOptions): Mint {
  const { serverId, nonce, configId = 0, lengthEncoded } = options;
  const nonceBytes = options.nonceBytes ?? (nonce === undefined ? undefined : nonce.length / 2);
  if (serverId === undefined) throw refuse("server-id", "say --server-id, or -c and --backend");
  if (nonceBytes === undefined) throw refuse("nonce-bytes", "say --nonce-bytes");
  const serverIdBytes = serverId.length / 2;
  const key = keyOf(io, options.key);
  const config = ready({ id: configId, serverIdBytes, nonceBytes, lengthEncoded, key });
  return { config, serverId: hexBytes(serverId), backend: null };
}

/** Prints IDs, one a line. */
export function encodeVerb(io: Io, options: EncodeOptions): number {
  const { config: file, count } = options;
  const { config, serverId, backend } =
    file === undefined ? mintFromOptions(io, options) : mintFromFile(io, file, options);
  if (options.nonce !== undefined && count > 1) throw refuse("nonce", "one nonce makes one ID: --count is 1");
  if (options.nonce !== undefined && options.nonce.length !== config.nonceBytes * 2) {
    throw refuse("nonce", `the nonce has ${config.nonceBytes} bytes, not ${options.nonce.length / 2}`);
  }
  const minted = Array.from({ length: count }, () => {
    const nonce = options.nonce === undefined ? io.env.random.bytes(config.nonceBytes) : hexBytes(options.nonce);
    const id = encodeCid(config, serverId, nonce, io.env.random.bytes(1)[0]!);
    return {
      connectionId: hexText(id), configId: config.id, mode: config.mode, serverId: hexText(serverId),
      nonce: hexText(nonce), backend,
    };
  });
  io.out(options.output === "json"
    ? `${JSON.stringify(minted, null, 2)}\n` : minted.map(({ connectionId }) => `${connectionId}\n`).join(""));
  return EXIT.done;
}

/** Prints what is in an ID. Ends with 1 when it says nothing, or nobody's ID. */
export function decodeVerb(io: Io, text: string, options: DecodeOptions): number {
  const id = hexBytes(text);
  const configId = configIdOf(id[0]!);
  const chosen = options.config === undefined ? null : chooseService(io, options.config, options.service);
  const config = chosen === null ? configFromOptions(io, configId, options) : chooseConfig(chosen.service, configId);
  if (options.configId !== undefined && options.configId !== configId) {
    throw refuse("config-id", `${text} is of config ${configId}, not ${options.configId}`);
  }
  if (id.length < cidBytes(config)) {
    throw refuse("id", `${text} has ${id.length} bytes; IDs of config ${configId} have ${cidBytes(config)} at least`);
  }
  const decoded = decodeCid(config, id);
  const serverId = hexText(decoded.serverId);
  const backend = chosen === null ? null : ownerOf(chosen, serverId);
  const answer = {
    connectionId: text, configId, mode: config.mode, serverId, nonce: hexText(decoded.nonce), backend,
  };
  if (options.output === "json") io.out(`${JSON.stringify(answer, null, 2)}\n`);
  else {
    io.out(table(["config", "mode", "server id", "nonce", "backend"],
      [[String(configId), config.mode, serverId, answer.nonce, backend ?? ""]]));
  }
  return chosen !== null && backend === null ? EXIT.failure : EXIT.done;
}

function configFromOptions(io: Io, id: number, options: DecodeOptions): QuicLbConfig {
  const { serverIdBytes, nonceBytes, key } = options;
  if (serverIdBytes === undefined) throw refuse("server-id-bytes", "say --server-id-bytes, or -c");
  if (nonceBytes === undefined) throw refuse("nonce-bytes", "say --nonce-bytes, or -c");
  return ready({ id, serverIdBytes, nonceBytes, lengthEncoded: false, key: keyOf(io, key) });
}

function ownerOf({ config, service }: Chosen, serverId: string): string | null {
  const owners = config.pools.filter((each) => usesPool(service, each.name)).flatMap((pool) =>
    pool.backends.filter(({ serverIds }) => serverIds.includes(serverId)).map(({ name }) => `${pool.name}/${name}`));
  return owners[0] ?? null;
}
