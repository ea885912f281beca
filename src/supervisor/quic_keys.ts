// The keys of QUIC connection IDs that a config keeps in files. Read when a config is accepted, so a
// reload takes up a file that changed. Knows files; must never print what is in them.

import { keyInFile } from "../config/formats_quic.ts";
import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";
import type { Config, Problem, ServiceConfig } from "../model/config.ts";
import { withoutRegions } from "../model/regions.ts";
import { readOrNull } from "./seed.ts";

/** The config with every key in hand. Throws CONFIG_INVALID with each file that has none. */
export function readQuicKeys(config: Config, file: string, env: Pick<Env, "files">): Config {
  const problems: Problem[] = [];
  const inFile = withoutRegions(config.services);
  const services = config.services.map((service) =>
    withKeys(service, env, (index, reason, path) => {
      problems.push({
        severity: "error", file, line: 1, column: 1, reason,
        path: `services[${inFile.indexOf(service)}].quicLb.configs[${index}].key`,
        hint: `create it with: openssl rand -hex 16 > ${path} (the same for servers and balancers)`,
      });
    }));
  const [first] = problems;
  if (first !== undefined) throw new Failure("CONFIG_INVALID", { problems }, first.reason);
  return services.every((service, at) => service === config.services[at]) ? config : { ...config, services };
}

/** The same for a config without a running instance: keys that cannot be read stay unknown. */
export function readableQuicKeys(config: Config, env: Pick<Env, "files">): Config {
  return { ...config, services: config.services.map((each) => withKeys(each, env, () => undefined)) };
}

function withKeys(
  service: ServiceConfig, env: Pick<Env, "files">,
  complain: (index: number, reason: string, path: string) => void,
): ServiceConfig {
  const configs = service.quicLb?.configs ?? [];
  if (!configs.some(({ key }) => key?.from === "file")) return service;
  const read = configs.map((config, index) => {
    const { key } = config;
    if (key?.from !== "file") return config;
    const content = readOrNull(key.path, env);
    const bytes = content === null ? null : keyInFile(content);
    if (bytes === null) {
      complain(index, content === null
        ? `the key file ${key.path} cannot be read`
        : `the key file ${key.path} does not hold 32 hexadecimal digits`, key.path);
    }
    return { ...config, key: { ...key, bytes } };
  });
  return { ...service, quicLb: { configs: read } };
}
