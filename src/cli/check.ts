// `check` and `config show`: a configuration file without a running instance. Knows the config room and
// how to print problems.

import { effectiveConfigText } from "../config/format.ts";
import { withoutKeys } from "../config/formats_quic.ts";
import { hostFacts } from "../config/host.ts";
import { parseConfig } from "../config/parse.ts";
import { formatProblems } from "../config/problem_lines.ts";
import type { HostCheck } from "../dataplane/host_check.ts";
import { findingsOnHost } from "../dataplane/probe.ts";
import type { Config } from "../model/config.ts";
import { withoutRegions } from "../model/regions.ts";
import { readGivenFile } from "./changes.ts";
import { geoNeeds } from "./doctor_geo.ts";
import { missingFiles } from "./doctor_health.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { loadConfig } from "./offline.ts";

/**
 * Prints every problem, what of this host does not suit the config where it has the config's interfaces, and which
 * files of probes cannot be read here, of which the host that is meant may have its own, and databases of regions that
 * no instance would begin with;
 * 2 when there is an error, 0 for warnings alone.
 */
export async function checkVerb(io: Io, file: string, output: "table" | "json"): Promise<number> {
  const result = parseConfig(file, readGivenFile(io, file), hostFacts(io.env.files));
  const problems = "problems" in result ? result.problems : result.warnings;
  const valid = !("problems" in result);
  const host = "config" in result ? await findings(io, result.config) : [];
  if (output === "json") io.out(`${JSON.stringify({ valid, problems, host }, null, 2)}\n`);
  else {
    if (problems.length > 0) io.err(`${formatProblems(problems)}\n`);
    if ("config" in result) {
      const backends = result.config.pools.reduce((sum, pool) => sum + pool.backends.length, 0);
      for (const { level, name, found, remedy } of host) io.err(`${file}: ${level}: ${name}: ${found} (${remedy})\n`);
      io.out(`${file} is valid: ${withoutRegions(result.config.services).length} service(s), ${backends} backend(s)\n`);
    }
  }
  return valid && host.every(({ level }) => level !== "error") ? EXIT.done : EXIT.usage;
}

async function findings(io: Io, config: Config): Promise<Pick<HostCheck, "level" | "name" | "found" | "remedy">[]> {
  const geo = (await geoNeeds(io.env, config)).filter(({ level }) => level !== "ok");
  return [...findingsOnHost(config, io.env), ...missingFiles(io.env, config), ...geo];
}

/** The file as it is, or with every default; of a running instance, what it has in force. */
export async function showConfigVerb(
  io: Io, options: { readonly config?: string; readonly effective: boolean }, running: () => Promise<unknown>,
): Promise<number> {
  if (options.config === undefined) io.out(`${JSON.stringify(await running(), null, 2)}\n`);
  else if (options.effective) io.out(effectiveConfigText(loadConfig(io, options.config)));
  else io.out(withoutKeys(new TextDecoder().decode(readGivenFile(io, options.config))));
  return EXIT.done;
}
