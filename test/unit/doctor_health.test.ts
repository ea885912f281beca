// What doctor says of the things that health checks need of this host.

import { describe, expect, it } from "vitest";
import { healthNeeds } from "../../src/cli/doctor_health.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { createFakeEnv } from "../support/fake_env.ts";

function needs(healths: readonly string[], present: readonly string[] = []): string[] {
  const pools = healths.map((health, at) => `  p${at}: { health: ${health}, backends: [{ name: b, address: 10.0.0.${at + 1} }] }`);
  const services = healths.map((_, at) => `  - { name: s${at}, address: 192.0.2.1, port: ${80 + at}, pool: p${at} }`);
  const text = `version: 1\ndataplane: { mode: proxy }\npools:\n${pools.join("\n")}\nservices:\n${services.join("\n")}\n`;
  const parsed = parseConfig("f.yaml", Buffer.from(text));
  if (!("config" in parsed)) throw new Error(JSON.stringify(parsed.problems));
  const env = createFakeEnv({ variables: { PATH: "/usr/local/bin:/usr/bin" } });
  for (const path of present) env.files.writeAtomic(path, "x", 0o600);
  return healthNeeds(env, parsed.config).map(({ name, level, found }) => `${level} ${name}: ${found}`);
}

describe("what health checks need", () => {
  it("is nothing for most", () => {
    expect(needs(["{ type: tcp }", "{ type: none }", "{ type: http, headers: { X-A: b } }", "{ type: redis }"])).toEqual([]);
  });

  it("files of certificates and secrets, each told once", () => {
    const healths = [
      "{ type: tls, ca: /ca.pem }", "{ type: http, tls: { ca: /ca.pem }, headers: { X-Key: 'file:/token' } }",
      "{ type: redis, password: 'file:/redis' }", "{ type: exec, command: /bin/check, environment: { A: 'file:/token' } }",
    ];
    const files = ["/ca.pem", "/redis", "/token"];
    expect(needs(healths, [...files, "/bin/check"])).toEqual([
      "ok probe files: /ca.pem, /redis, /token: there", "ok probe commands: /bin/check: there; begin with run --exec-probes",
    ]);
    expect(needs(healths, ["/ca.pem"])).toEqual([
      "warning probe files: /redis, /token: not there, or not readable", "warning probe commands: /bin/check: not there",
    ]);
  });

  it("addresses to come from, and ping", () => {
    const healths = ["{ type: tcp, source: 127.0.0.1 }", "{ type: icmp, source: 198.18.0.9 }"];
    expect(needs(healths, ["/usr/bin/ping"])).toEqual(["warning probe sources: 198.18.0.9: not on this host", "ok ping: installed"]);
    expect(needs(["{ type: icmp, source: 127.0.0.1 }"])).toEqual(["ok probe sources: 127.0.0.1: on this host", "warning ping: not installed"]);
  });
});
