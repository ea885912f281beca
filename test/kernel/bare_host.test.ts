// A host with nothing: an ordinary user without capabilities, no clang, no libbpf, nothing built
// for the kernel. Set-up goes on and says what is missing; `npm start` serves through the proxy and
// says why; `npm test` runs what can run and names what it skips.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { runIn } from "../../scripts/namespaces.ts";
import type { RunResult } from "../../scripts/namespaces.ts";
import { ROOT, describeKernel } from "../support/kernel.ts";

/** Nobody, as every Debian numbers it. */
const USER = "65534";

/**
 * A mount namespace of its own in which compilers and libraries are covered, and a copy of the
 * checkout as somebody's clone that was never built natively; then the command, as that user.
 */
const HIDE = `
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=1777 tmpfs /mnt
for hidden in clang clang-14 clang-19 cmake; do
  for directory in /usr/bin /usr/local/bin; do
    [ ! -e "$directory/$hidden" ] || mount --bind /dev/null "$directory/$hidden"
  done
done
[ ! -d /usr/include/bpf ] || mount -t tmpfs -o mode=0755 tmpfs /usr/include/bpf
for pc in $(find /usr/lib /usr/share -name libbpf.pc); do mount --bind /dev/null "$pc"; done
mkdir /mnt/clone
cd "$1"
cp -a package.json package-lock.json tsconfig.json tsconfig.build.json CMakeLists.txt README.md LICENSE src scripts bench bpf native schema dist /mnt/clone/
cp -a vitest.config.ts test /mnt/clone/
[ ! -d docs ] || cp -a docs /mnt/clone/
cp -a ARCHITECTURE.md /mnt/clone/ 2>/dev/null || :
ln -s "$1/node_modules" /mnt/clone/node_modules
chown -R ${USER}:${USER} /mnt/clone
cd /mnt/clone
shift
exec setpriv --reuid=${USER} --regid=${USER} --clear-groups --inh-caps=-all --bounding-set=-all \\
  env -i HOME=/mnt PATH="$(dirname "$1"):/usr/local/bin:/usr/bin:/bin" NODE_ENV=production NO_COLOR=1 "$@"
`;

function onBareHost(...command: readonly string[]): Promise<RunResult> {
  const args = ["--mount", "sh", "-c", HIDE, "bare-host", ROOT, ...command];
  return runIn(null, "unshare", args, { check: false, timeoutMs: 150_000 });
}

describeKernel(
  "a host without root, clang and libbpf",
  ["capabilities", "tool:unshare", "tool:setpriv"],
  () => {
    let setup: RunResult;
    beforeAll(async () => {
      setup = await onBareHost(process.execPath, "scripts/setup.mjs", "--quiet");
    });

    it("set-up says what is missing and why it is left out, and succeeds", () => {
      expect(setup.stderr).toBe("");
      expect(setup.status).toBe(0);
      expect(setup.stdout).toMatch(/not installed, since .*root.*: .*clang.*libbpf-dev/);
      expect(setup.stdout).toContain(
        "the addon and the XDP programs are left out; missing: clang, cmake",
      );
    });

    it("the same user has neither capabilities nor a compiler there", async () => {
      const seen = await onBareHost(
        "/bin/sh",
        "-c",
        "grep CapEff /proc/self/status; command -v clang || echo none; id -u; ls build || :",
      );
      expect(seen.stdout).toContain("CapEff:\t0000000000000000");
      expect(seen.stdout.split("\n")).toEqual(expect.arrayContaining(["none", USER]));
    });

    it("npm test runs what can run, names what it skips and why, and ends with exit 0", async () => {
      const files = ["test/unit/kernel_support.test.ts", "test/kernel/namespaces.test.ts"];
      const ended = await onBareHost(process.execPath, "scripts/test.mjs", ...files);
      expect(ended.status, ended.stdout + ended.stderr).toBe(0);
      expect(ended.stdout).toContain("not root, and there is no sudo without a password");
      const [reason, last] = ended.stdout.trimEnd().split("\n").slice(-2);
      expect(reason).toMatch(/^skipped \d+: lacks CAP_NET_ADMIN, .*\(run as root\)$/);
      expect(last).toMatch(/^[1-9]\d* passed, 0 failed, [1-9]\d* skipped$/);
    });

    it("npm start serves through the proxy, says why, and ends with exit 0", async () => {
      const { start } = (
        JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
          scripts: { start: string };
        }
      ).scripts;
      const command = start.replace(/^.*exec node /, "").split(" ");
      const ended = await onBareHost(process.execPath, ...command);
      expect(ended.stderr).toBe("");
      expect(ended.status).toBe(0);
      expect(ended.stdout).toMatch(/proxy/);
      expect(ended.stdout).toMatch(/root|capabilit|addon/);
    });
  },
);
