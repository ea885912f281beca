// The packed program as a stranger gets it: the tarball's content, the library from it, and its command.

import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROOT } from "../support/kernel.ts";

let home: string;
let packed: string;

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        resolve(typeof address === "object" && address !== null ? address.port : 0);
      });
    });
  });
}

describe("the packed program", () => {
  beforeAll(() => {
    home = mkdtempSync(join(tmpdir(), "pointsman-pack-"));
    const listed = JSON.parse(
      execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", home], {
        cwd: ROOT,
        encoding: "utf8",
      }),
    ) as { filename: string }[];
    execFileSync("tar", ["-xzf", join(home, listed[0]?.filename ?? ""), "-C", home]);
    packed = join(home, "node_modules/pointsman");
    mkdirSync(join(home, "node_modules"), { recursive: true });
    cpSync(join(home, "package"), packed, { recursive: true });
    // Its dependencies, and nothing that only development needs.
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      dependencies: Record<string, string>;
    };
    for (const name of Object.keys(dependencies))
      symlinkSync(join(ROOT, "node_modules", name), join(home, "node_modules", name));
  });
  afterAll(() => {
    rmSync(home, { recursive: true, force: true });
  });

  it("holds the program, the sources of the addon, the schema and the documents, and no tests", () => {
    for (const path of [
      "dist/src/main.js",
      "dist/src/index.js",
      "dist/src/index.d.ts",
      "bpf/pointsman.bpf.c",
      "native",
      "CMakeLists.txt",
      "schema/pointsman.schema.json",
      "README.md",
      "LICENSE",
    ]) {
      expect(existsSync(join(packed, path)), path).toBe(true);
    }
    for (const path of ["test", "bench", "scripts", "node_modules", "dist/scripts", "dist/bench"])
      expect(existsSync(join(packed, path)), path).toBe(false);
  });

  it("names no source that it does not hold", () => {
    const names = readdirSync(join(packed, "dist"), { recursive: true, encoding: "utf8" });
    expect(names.filter((name) => name.endsWith(".js")).length).toBeGreaterThan(50);
    expect(names.filter((name) => name.endsWith(".map"))).toEqual([]);
    const pointing = names.filter((name) => name.endsWith(".js"))
      .filter((name) => readFileSync(join(packed, "dist", name), "utf8").includes("sourceMappingURL"));
    expect(pointing).toEqual([]);
  });

  it("serves as a library: the example balances, drains and ends", async () => {
    cpSync(join(ROOT, "examples/embed.mjs"), join(home, "embed.mjs"));
    const ended = spawnSync(process.execPath, ["embed.mjs", String(await freePort())], {
      cwd: home,
      encoding: "utf8",
      timeout: 30_000,
      env: { ...process.env, POINTSMAN_RUN_DIRECTORY: join(home, "run") },
    });
    const lines = ended.stdout.trim().split("\n");
    expect(ended.status, ended.stderr).toBe(0);
    expect(
      lines.slice(0, 4).every((line) => line === "a" || line === "b"),
      ended.stdout,
    ).toBe(true);
    expect(lines[4]).toMatch(/^web\/web-0 draining, web\/web-1 (up|unknown)$/);
  });

  it("runs as a command", () => {
    const ended = spawnSync(process.execPath, [join(packed, "dist/src/main.js"), "--version"], { encoding: "utf8" });
    expect([ended.status, ended.stdout]).toEqual([
      0,
      `${(JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string }).version}\n`,
    ]);
  });
});
