// The databases of services with regions, for `doctor` and `check`: whether they can be used on this host, and
// what they say. Knows configs and words; reads by the supervisor's own rules.

import type { HostCheck } from "../dataplane/host_check.ts";
import { check } from "../dataplane/host_check.ts";
import type { Env } from "../env.ts";
import type { Config } from "../model/config.ts";
import { readableRegions, regionsChanged } from "../supervisor/geo_databases.ts";

/** A config whose databases cannot be used is not put in force by `run`. */
export async function geoNeeds(env: Pick<Env, "files">, wanted: Config): Promise<HostCheck[]> {
  const { config, reasons } = await readableRegions(wanted, env);
  return [
    ...regionsChanged(null, config).map(({ service, message }) => check("geo", true, `service ${service}: ${message}`, null)),
    ...reasons.map((reason) => check("geo", false, reason, "put a database with countries in MaxMind's format there", "error")),
  ];
}
