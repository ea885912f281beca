#!/usr/bin/env node
// Makes this clone ready: dependencies, system packages, build. Only Node's own modules, since
// nothing else may be there yet. Does what setup_plan.mjs says and prints it; with everything there
// it does nothing. Never asks unless somebody sits at a terminal.
//
//   --with NAMES     also bench, servers, golden, old-kernel, fuzz, vagrant, ci (comma-separated)
//   --plane proxy    no system packages, no native build
//   --quiet          no word when there was nothing to do
//   POINTSMAN_SETUP=no-apt forbids system packages

import { spawnSync } from "node:child_process";
import {
  accessSync,
  chownSync,
  constants,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { atLeast } from "./build_plan.mjs";
import { isBuilt } from "./build.mjs";
import { withLock } from "./lock.mjs";
import {
  NODE_MIN,
  installedMatches,
  parseOsRelease,
  planSetup,
  unknownExtras,
  wantedPackages,
} from "./setup_plan.mjs";
import { digest } from "./stamp.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const stampPath = join(root, "node_modules/.pointsman-stamp.json");
/** How long a busy apt is waited for. */
const APT_WAIT_S = 120;
/**
 * After a failure, `npm start` and `npm test` leave apt alone for so long; `npm run setup` tries
 * again.
 */
const APT_RETRY_MS = 3_600_000;

class SetupFailed extends Error {}

/** @param {string} line */
function say(line) {
  process.stdout.write(`setup: ${line}\n`);
}

/** @typedef {{ quiet: boolean, plane: "all" | "proxy", extras: string[] }} Options */

/** @returns {Record<string, unknown>} */
function readStamp() {
  try {
    return JSON.parse(readFileSync(stampPath, "utf8"));
  } catch {
    return {};
  }
}

/** @param {Record<string, unknown>} changes */
function writeStamp(changes) {
  writeFileSync(stampPath, `${JSON.stringify({ ...readStamp(), ...changes })}\n`);
  // Also where nothing else is to be done: an owner that cannot write it could not set up again.
  const { uid, gid } = statSync(root);
  if (process.getuid?.() === 0) chownSync(stampPath, uid, gid);
}

function dependencyDigest() {
  return digest(root, ["package-lock.json"], [process.version, process.platform, process.arch]);
}

function dependenciesFresh() {
  if (readStamp()["dependencies"] === dependencyDigest()) return true;
  try {
    const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
    const installed = JSON.parse(
      readFileSync(join(root, "node_modules/.package-lock.json"), "utf8"),
    );
    if (!installedMatches(lock, installed, { platform: process.platform, arch: process.arch }))
      return false;
  } catch {
    return false;
  }
  try {
    writeStamp({ dependencies: dependencyDigest() });
  } catch { /* somebody else's clone: it is fresh all the same */ }
  return true;
}

/** @param {string} command */
function onPath(command) {
  // A user's PATH often lacks the sbin directories, where ip and ethtool may live.
  const directories = [
    ...(process.env["PATH"] ?? "").split(delimiter),
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
  ];
  return directories.some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** @param {import("./setup_plan.mjs").Package} one */
function isPresent({ shownBy }) {
  return "command" in shownBy
    ? onPath(shownBy.command)
    : shownBy.files.some((path) => existsSync(resolve(root, path)));
}

/** @param {number} uid @returns {"works" | "asks" | "absent"} */
function askSudo(uid) {
  if (uid === 0 || !onPath("sudo")) return "absent";
  return spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status === 0 ? "works" : "asks";
}

/** @param {Options} options @returns {import("./setup_plan.mjs").Facts} */
function gatherFacts(options) {
  const uid = process.getuid?.() ?? 1;
  /** @type {import("./setup_plan.mjs").Facts} */
  const facts = {
    platform: process.platform,
    system: existsSync("/etc/os-release")
      ? parseOsRelease(readFileSync("/etc/os-release", "utf8"))
      : { id: "", like: "", version: "" },
    uid,
    ownerUid: statSync(root).uid,
    tty: process.stdin.isTTY === true,
    sudo: "absent",
    apt: onPath("apt-get"),
    policy: process.env["POINTSMAN_SETUP"] ?? "",
    plane: options.plane,
    extras: options.extras,
    present: [],
    dependenciesFresh: dependenciesFresh(),
    built: isBuilt(options.plane),
  };
  const wanted = wantedPackages(facts);
  const present = wanted.filter(isPresent).map((one) => one.name);
  // Asking sudo leaves a line in the system's log: only when there is something to ask for.
  const sudo = present.length < wanted.length ? askSudo(uid) : "absent";
  return { ...facts, present, sudo };
}

function installDependencies() {
  say("npm ci");
  const npm = process.env["npm_execpath"];
  const [command, first] =
    npm?.endsWith("npm-cli.js") === true ? [process.execPath, [npm]] : ["npm", []];
  // NODE_ENV=production or `omit=dev` of a user's npmrc must not take the compiler away.
  const args = [
    ...first,
    "ci",
    "--include=dev",
    "--include=optional",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
  ];
  const ended = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (ended.status !== 0) throw new SetupFailed("npm ci failed; what it printed says why");
  writeStamp({ dependencies: dependencyDigest() });
}

/**
 * The whole of it is one script, so that whatever happens the policy goes again: under it dpkg
 * starts no daemon. A policy of somebody else's stays.
 */
const APT_SCRIPT = `
set -u
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ] || grep -q 'pointsman set-up' "$policy"; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\\n# pointsman set-up: no daemon starts while packages are installed\\nexit 101\\n' >"$policy"
  chmod 755 "$policy"
fi
wait_s=$1 packages=$2 units=$3
# apt waits for dpkg's lock itself, but not for the one of the package lists.
patiently() {
  waited=0
  while :; do
    message=$(LC_ALL=C "$@" -o DPkg::Lock::Timeout="$wait_s" -qq -o Dpkg::Use-Pty=0 3>&1 1>&2 2>&3) && return 0
    case $message in *"Could not get lock"*) ;; *) printf '%s\\n' "$message" >&2; return 1 ;; esac
    if [ "$waited" -ge "$wait_s" ]; then printf '%s\\n' "$message" >&2; return 1; fi
    [ "$waited" -gt 0 ] || echo "setup: another apt is running; waiting" >&2
    waited=$((waited + 2)); sleep 2
  done
}
patiently apt-get update || echo "setup: apt-get update failed; trying with the lists that are there" >&2
patiently apt-get install -y --no-install-recommends $packages || exit 1
if command -v systemctl >/dev/null; then
  for unit in $units; do systemctl disable --quiet "$unit" 2>/dev/null || :; done
fi
`;

/**
 * @param {Extract<import("./setup_plan.mjs").Step, { do: "apt" }>} step
 * @param {Options} options
 */
function installPackages(step, options) {
  const failedAt = Number(readStamp()["aptFailedAt"] ?? 0);
  if (options.quiet && !step.required && Date.now() - failedAt < APT_RETRY_MS) {
    say("apt failed a short while ago and is left alone; npm run setup tries again");
    return;
  }
  const escalation = step.through === "none" ? [] : step.through.split(" ");
  const [command = "sh", ...args] = [
    ...escalation,
    "sh",
    "-c",
    APT_SCRIPT,
    "pointsman-setup",
    String(APT_WAIT_S),
    step.packages.join(" "),
    step.units.join(" "),
  ];
  // A terminal is passed on only to a sudo that may ask.
  const ended = spawnSync(command, args, {
    stdio: [step.through === "sudo" ? "inherit" : "ignore", "inherit", "inherit"],
  });
  if (ended.status === 0) {
    writeStamp({ aptFailedAt: 0 });
    return;
  }
  const command1 = `apt-get install --no-install-recommends ${step.packages.join(" ")}`;
  if (step.required) throw new SetupFailed(`apt failed; as root: ${command1}`);
  writeStamp({ aptFailedAt: Date.now() });
  say(`apt failed and set-up goes on without; as root: ${command1}`);
}

/**
 * The package on which a package without contents depends: downloaded, and unpacked in one move.
 * Needs no rights, and leaves no trace in the system.
 */
const UNPACK_SCRIPT = `
set -eu
package=$1 into=$2
version=$(apt-cache depends "$package" | sed -n 's/^ *Depends: //p' | head -n 1)
[ -n "$version" ] || { echo "setup: apt knows no $package; apt-get update may help" >&2; exit 1; }
scratch=$(mktemp -d "$into.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
apt-get download -qq -o APT::Sandbox::User=root "$version"
mkdir contents
dpkg-deb -x ./*.deb contents
rm -rf "$into"
mv contents "$into"
`;

/** @param {Extract<import("./setup_plan.mjs").Step, { do: "unpack" }>} step */
function unpack(step) {
  const into = resolve(root, step.into);
  mkdirSync(dirname(into), { recursive: true });
  const args = ["-c", UNPACK_SCRIPT, "pointsman-setup", step.package, into];
  const ended = spawnSync("sh", args, { stdio: ["ignore", "inherit", "inherit"] });
  if (ended.status !== 0) throw new SetupFailed(`${step.package} could not be unpacked`);
}

/** @param {Options} options */
function build(options) {
  const args = [join(root, "scripts/build.mjs"), "--quiet", "--plane", options.plane];
  if (
    spawnSync(process.execPath, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] })
      .status !== 0
  ) {
    throw new SetupFailed("the build failed");
  }
}

/**
 * Root's files in somebody else's clone: what set-up and build may have created becomes the
 * owner's.
 */
function giveBack() {
  const { uid, gid } = statSync(root);
  /** @param {string} path */
  const visit = (path) => {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined) return;
    if (found.uid === 0) (found.isSymbolicLink() ? lchownSync : chownSync)(path, uid, gid);
    if (found.isDirectory()) for (const name of readdirSync(path)) visit(join(path, name));
  };
  for (const name of ["node_modules", "dist", "build", "schema", "src/dataplane/xdp/abi.gen.ts"])
    visit(join(root, name));
}

/**
 * @param {Options} options
 * @param {Exclude<import("./setup_plan.mjs").Step, { do: "give-back" }>} step
 */
function take(options, step) {
  switch (step.do) {
    case "say": return say(step.text);
    case "npm": return installDependencies();
    case "apt": return installPackages(step, options);
    case "unpack": return unpack(step);
    case "build": return build(options);
  }
}

/** @returns {Options} */
function parseOptions() {
  const { values } = parseArgs({
    options: {
      with: { type: "string", multiple: true, default: [] },
      plane: { type: "string", default: "all" },
      quiet: { type: "boolean", default: false },
    },
  });
  const extras = values.with.flatMap((names) => names.split(",")).filter((name) => name !== "");
  const unknown = unknownExtras(extras);
  if (unknown.length > 0) throw new SetupFailed(`--with knows no ${unknown.join(", ")}`);
  if (values.plane !== "all" && values.plane !== "proxy")
    throw new SetupFailed("--plane is all or proxy");
  return { quiet: values.quiet, plane: values.plane, extras };
}

async function main() {
  if (!atLeast(process.version.slice(1), NODE_MIN)) {
    throw new SetupFailed(`Node ${NODE_MIN} or newer is needed; this is ${process.version}`);
  }
  const options = parseOptions();
  if (planSetup(gatherFacts(options)).length > 0) {
    const waiting = (/** @type {string} */ owner) => {
      say(`process ${owner} is setting up; waiting`);
    };
    await withLock(join(root, ".setup-lock"), { waiting }, () => {
      // Whoever held the lock may have done it all.
      const steps = planSetup(gatherFacts(options));
      try {
        for (const step of steps) if (step.do !== "give-back") take(options, step);
      } finally {
        // A build that failed leaves files too.
        if (steps.some((step) => step.do === "give-back")) giveBack();
      }
    });
  }
  if (!options.quiet) say("ready");
}

try {
  await main();
} catch (error) {
  if (!(error instanceof SetupFailed)) throw error;
  process.stderr.write(`setup: ${error.message}\n`);
  process.exitCode = 1;
}
