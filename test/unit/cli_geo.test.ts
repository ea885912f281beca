// The commands that read a file of their own, where services have regions: check, doctor, explain, ring and plan
// with databases that are there, and that are not.

import { describe, expect, it } from "vitest";
import type { Io } from "../../src/cli/io.ts";
import { runCli } from "../../src/cli/program.ts";
import { COUNTRIES } from "../../src/config/formats_geo.ts";
import { createFakeEnv } from "../support/fake_env.ts";
import { country, mmdb } from "../support/mmdb.ts";

const CONFIG = `version: 1
dataplane: { mode: proxy, hashSeed: "0011223344556677" }
pools:
  web: { backends: [{ name: a, address: 10.0.0.1 }] }
  web-eu: { backends: [{ name: b, address: 10.0.0.2 }, { name: c, address: 10.0.0.3 }] }
services:
  - name: web
    address: 203.0.113.10
    port: 80
    pool: web
    geo: { database: /geo.mmdb, regions: [{ name: eu, continents: [EU], pool: web-eu }] }
`;
const DATABASE = mmdb({ "192.0.2.0/24": country("DE", "EU") }, { builtAtMs: Date.UTC(2026, 5, 1) });

async function cli(argv: string, files: Readonly<Record<string, string | Uint8Array>>): Promise<{ code: number; out: string; err: string }> {
  const env = createFakeEnv();
  for (const [path, content] of Object.entries({ "/config.yaml": CONFIG, ...files })) env.files.writeAtomic(path, content, 0o644);
  const said = { code: -1, out: "", err: "" };
  const io: Io = {
    env, out: (text) => { said.out += text; }, err: (text) => { said.err += text; }, isTty: false, columns: 100, actor: "tester",
    confirm: () => Promise.resolve(false), interrupted: new AbortController().signal,
    onHangup: () => () => undefined, onUpgradeSignal: () => () => undefined,
    connect: () => { throw new Error("nobody is asked"); },
  };
  said.code = await runCli(argv.split(" "), io);
  return said;
}

describe("check", () => {
  it("counts services of the file, and accepts a database that can be used", async () => {
    expect(await cli("check /config.yaml", { "/geo.mmdb": DATABASE }))
      .toEqual({ code: 0, out: "/config.yaml is valid: 1 service(s), 3 backend(s)\n", err: "" });
  });

  it("refuses one that is missing or broken, in text and as JSON", async () => {
    for (const [files, reason] of [
      [{}, "there is no such file"], [{ "/geo.mmdb": DATABASE.subarray(0, 50) }, "it is no database in MaxMind's format, or was cut off"],
    ] as const) {
      const remedy = "put a database with countries in MaxMind's format there";
      const text = await cli("check /config.yaml", files);
      expect([text.code, text.err]).toEqual([2, `/config.yaml: error: geo: /geo.mmdb: ${reason} (${remedy})\n`]);
      const json = await cli("check /config.yaml -o json", files);
      expect([json.code, (JSON.parse(json.out) as { host: unknown }).host])
        .toEqual([2, [{ name: "geo", ok: false, level: "error", found: `/geo.mmdb: ${reason}`, remedy }]]);
    }
  });
});

it("doctor says of which date the database is", async () => {
  expect((await cli("doctor -c /config.yaml", { "/geo.mmdb": DATABASE })).out)
    .toMatch(/geo +service web: regions are those of Test-Country of 2026-06-01: 1 prefix\n/);
});

it("explain and ring answer of a file, and tell when its database is not there", async () => {
  const there = await cli("explain 192.0.2.9:4000 web -c /config.yaml", { "/geo.mmdb": DATABASE });
  expect(there.err).toBe("");
  expect(there.out).toContain("192.0.2.9:4000 → web@eu: web-eu/");
  expect(there.out).toContain("192.0.2.9 is in 192.0.2.0/24 of region eu: web@eu is for it, whose pool is web-eu");
  const missing = await cli("explain 192.0.2.9:4000 web -c /config.yaml", {});
  expect(missing.err).toBe("note: /geo.mmdb: there is no such file; this answer knows no region but by networks\n");
  expect(missing.out).toContain("192.0.2.9:4000 → web: web/a");
  expect((await cli("ring web@eu -c /config.yaml", { "/geo.mmdb": DATABASE })).out).toMatch(/^web@eu: 65537 slots\n/);
  expect((await cli("explain 192.0.2.9:1 mail -c /config.yaml", { "/geo.mmdb": DATABASE })).err).toContain("there are web, web@eu");
});

it("config show --effective is the file again, without the services of regions", async () => {
  const { out } = await cli("config show -c /config.yaml --effective", { "/geo.mmdb": DATABASE });
  expect(out.match(/^ {2}- name: .*$/gm)).toEqual(["  - name: web"]);
  expect(await cli("check /again.yaml", { "/again.yaml": out, "/geo.mmdb": DATABASE })).toMatchObject({ code: 0 });
});

it("codes of countries are those that Unicode's data have names for", () => {
  expect(COUNTRIES.size).toBe(250);
  const names = new Intl.DisplayNames(["en"], { type: "region", fallback: "none" });
  expect([...COUNTRIES].filter((code) => names.of(code) === undefined)).toEqual([]);
});
