// Cross-field rules about QUIC connection IDs: which configs stand side by side, and whether each
// backend can be told by the IDs that they encode. Bounds and demands are those of
// draft-ietf-quic-load-balancers-21. Must never look at one field alone.

import { QUIC_PLAINTEXT_BYTES_MAX } from "../model/quic_lb.ts";
import { valueAt } from "./explain.ts";
import { checkServerId } from "./formats_quic.ts";
import { pathText, quoted } from "./problem.ts";
import type { Finding, Path } from "./problem.ts";
import type { Draft, DraftBackend, DraftPool, DraftService } from "./draft.ts";
import { error, poolUses, serviceName, warning } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";
import { quicConfigSchema } from "./schema_quic.ts";

/** A config that can be read, whatever is wrong with its neighbours. */
interface DraftQuicConfig {
  readonly path: Path;
  readonly id: number;
  readonly serverIdBytes: number;
  readonly nonceBytes: number;
  readonly isPlain: boolean;
}

function quicConfigs(draft: Draft, { path }: DraftService): DraftQuicConfig[] {
  const list = valueAt(draft.root, [...path, "quicLb", "configs"]);
  return (Array.isArray(list) ? list : []).flatMap((value: unknown, index) => {
    const { success, data } = quicConfigSchema.safeParse(value);
    if (!success) return [];
    const { id, serverIdBytes, nonceBytes, key } = data;
    const place = [...path, "quicLb", "configs", index];
    return [{ path: place, id, serverIdBytes, nonceBytes, isPlain: key === null }];
  });
}

function* protocols(draft: Draft): Iterable<Finding> {
  for (const { path, fields } of draft.services) {
    const value = valueAt(draft.root, [...path, "quicLb"]);
    if (fields.protocol !== "tcp" || value === undefined || value === null) continue;
    yield error([...path, "quicLb"], "a tcp service has no QUIC packets", "say protocol: udp");
  }
}

function* configs(draft: Draft): Iterable<Finding> {
  for (const service of draft.services) {
    const first = new Map<number, DraftQuicConfig>();
    for (const config of quicConfigs(draft, service)) {
      const before = first.get(config.id);
      if (before === undefined) first.set(config.id, config);
      else yield error([...config.path, "id"], `${config.id} is the ID of ${pathText(before.path)}`);
      const sum = config.serverIdBytes + config.nonceBytes;
      if (sum <= QUIC_PLAINTEXT_BYTES_MAX) continue;
      yield error([...config.path, "nonceBytes"],
        `server ID and nonce have ${sum} bytes together`,
        `a connection ID has room for ${QUIC_PLAINTEXT_BYTES_MAX}`);
    }
  }
}

/** Texts that are server IDs, as the program compares them. */
function serverIds(draft: Draft, backend: DraftBackend): { text: string; path: Path }[] {
  const list = valueAt(draft.root, [...backend.path, "serverIds"]);
  return (Array.isArray(list) ? list : []).flatMap((text: unknown, index) =>
    typeof text === "string" && checkServerId(text) === null
      ? [{ text: text.toLowerCase(), path: [...backend.path, "serverIds", index] }] : []);
}

/** One backend per server ID, or nobody knew where its packets go. */
function* uniqueServerIds(draft: Draft): Iterable<Finding> {
  const said = new Set<string>();
  const together = draft.services.map(({ pools }) => [...new Set(pools)]).filter((pools) => pools.length > 1);
  for (const pools of [...draft.pools.map((pool) => [pool]), ...together]) {
    const owners = new Map<string, Path>();
    for (const { text, path } of pools.flatMap(({ backends }) => backends ?? []).flatMap((each) => serverIds(draft, each))) {
      const before = owners.get(text);
      owners.set(text, before ?? path);
      if (before === undefined || said.has(pathText(path))) continue;
      said.add(pathText(path));
      yield error(path, `the server ID ${quoted(text)} is already ${pathText(before)}`);
    }
  }
}

/** Each backend has an ID of each length that a service of its pool asks for. */
function* missingServerIds(draft: Draft): Iterable<Finding> {
  const said = new Set<string>();
  for (const [pool, service] of poolUses(draft)) {
    if (service === null) continue;
    for (const { id, serverIdBytes } of quicConfigs(draft, service)) {
      for (const backend of pool.backends ?? []) {
        const key = `${pathText(backend.path)} ${serverIdBytes}`;
        const ids = serverIds(draft, backend);
        if (said.has(key) || ids.some(({ text }) => text.length === serverIdBytes * 2)) continue;
        if (hasUnreadId(draft, backend)) continue;
        said.add(key);
        yield error([...backend.path, "serverIds"],
          `no server ID of ${bytes(serverIdBytes)}, as config ${id} of ${serviceName(service)} has`,
          "every backend needs one, or its connections go by flow and ring alone");
      }
    }
  }
}

/** What could not be read may be the ID that is missing. */
function hasUnreadId(draft: Draft, backend: DraftBackend): boolean {
  const list = valueAt(draft.root, [...backend.path, "serverIds"]);
  if (list === undefined) return false;
  return !Array.isArray(list) || serverIds(draft, backend).length < list.length;
}

function bytes(count: number): string {
  return count === 1 ? "1 byte" : `${count} bytes`;
}

function* unusedServerIds(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    const lengths = lengthsWanted(draft, pool);
    for (const { text, path } of (pool.backends ?? []).flatMap((each) => serverIds(draft, each))) {
      if (lengths.has(text.length / 2)) continue;
      yield warning(path, `no quicLb of a service has server IDs of ${bytes(text.length / 2)} here`,
        "nothing is routed by it");
    }
  }
}

function lengthsWanted(draft: Draft, pool: DraftPool): Set<number> {
  const services = draft.services.filter((service) => service.pools.includes(pool));
  return new Set(services.flatMap((service) =>
    quicConfigs(draft, service).map(({ serverIdBytes }) => serverIdBytes)));
}

/** Whoever reads an ID in plaintext knows what is hidden in the other one: the draft's 9.7. */
function* sharedAllocations(draft: Draft): Iterable<Finding> {
  for (const service of draft.services) {
    const all = quicConfigs(draft, service);
    for (const plain of all.filter(({ isPlain }) => isPlain)) {
      const hidden = all.find((each) => !each.isPlain && each.serverIdBytes === plain.serverIdBytes);
      const single = service.pools.flatMap(({ backends }) => backends ?? []).find((backend) =>
        serverIds(draft, backend).filter(({ text }) => text.length === plain.serverIdBytes * 2)
          .length === 1);
      if (hidden === undefined || single === undefined) continue;
      yield warning([...plain.path, "key"],
        `config ${hidden.id} hides server IDs that config ${plain.id} shows`,
        `give each backend, such as ${pathText(single.path)}, a second server ID of this length, `
        + "one for each config");
    }
  }
}

export const QUIC_RULES: readonly Rule[] = [
  protocols, configs, uniqueServerIds, missingServerIds, unusedServerIds, sharedAllocations,
];
