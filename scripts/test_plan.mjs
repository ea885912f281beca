// What `npm test` runs and how it reports: projects, privileges, counts. Pure: facts and vitest's
// own JSON report go in, decisions and the last line come out.

/**
 * @typedef {object} Ask
 * @property {readonly string[]} filters
 * @property {"unit" | "kernel" | null} project null for both
 * @property {boolean} long
 */

/**
 * @typedef {object} Facts
 * @property {number} uid
 * @property {boolean} sudo whether `sudo -n` works
 */

/** @typedef {{ project: "unit" | "kernel", sudo: boolean, note: string | null }} Run */

/**
 * The vitest runs, in order. Kernel tests need root: without it they get it from sudo, or say in
 * their own skips why they cannot run.
 * @param {Ask} ask
 * @param {Facts} facts
 * @returns {Run[]}
 */
export function planRuns(ask, facts) {
  /** @type {Run[]} */
  const runs = [];
  if (ask.project !== "kernel") runs.push({ project: "unit", sudo: false, note: null });
  if (ask.project !== "unit") {
    const sudo = facts.uid !== 0 && facts.sudo;
    const note =
      facts.uid === 0 || sudo
        ? null
        : "not root, and there is no sudo without a password: kernel tests are skipped";
    runs.push({ project: "kernel", sudo, note });
  }
  return runs;
}

/** What root needs to know of this environment; sudo drops the rest. */
const PASSED_ON = [
  "CI", "KERNEL_TESTS", "SEED", "POINTSMAN_LONG", "UPDATE_GOLDEN", "NO_COLOR", "FORCE_COLOR",
];

/** A user's PATH often lacks them, and it goes on through sudo. */
const ROOT_ONLY = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/**
 * @param {Run} run
 * @param {{ root: string, node: string, variables: Readonly<Record<string, string | undefined>> }} here
 * @param {readonly string[]} args vitest's
 * @returns {{ command: string, args: string[] }}
 */
export function commandLine(run, here, args) {
  const vitest = [`${here.root}/node_modules/vitest/vitest.mjs`, "run", "--project", run.project];
  if (!run.sudo) return { command: here.node, args: [...vitest, ...args] };
  const variables = PASSED_ON.flatMap((name) => {
    const value = here.variables[name];
    return value === undefined ? [] : [`${name}=${value}`];
  });
  const own = (here.variables["PATH"] ?? "").split(":").filter((directory) => directory !== "");
  const path = [...own, ...ROOT_ONLY.filter((directory) => !own.includes(directory))].join(":");
  variables.push(`PATH=${path}`);
  // The absolute path of this node: root's PATH may hold another, or none.
  return { command: "sudo", args: ["-n", "env", ...variables, here.node, ...vitest, ...args] };
}

/**
 * Which test files the filters mean: by path, else by the name of a randomised test in the file.
 * What matches neither is taken as part of a test's title.
 * @param {readonly string[]} filters
 * @param {readonly { path: string, text: string }[]} files
 * @returns {{ files: string[], titles: string[] }}
 */
export function chooseFiles(filters, files) {
  /** @type {Set<string>} */
  const chosen = new Set();
  /** @type {string[]} */
  const titles = [];
  for (const filter of filters) {
    let hits = files.filter((file) => file.path.includes(filter));
    if (hits.length === 0) hits = files.filter((file) => file.text.includes(`"${filter}"`));
    if (hits.length === 0) titles.push(filter);
    for (const hit of hits) chosen.add(hit.path);
  }
  return { files: [...chosen].sort(), titles };
}

/** vitest's option for these titles, taken literally. @param {readonly string[]} titles */
export function titlePattern(titles) {
  if (titles.length === 0) return [];
  return [
    "--testNamePattern",
    titles.map((title) => title.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|"),
  ];
}

/**
 * @typedef {object} Totals
 * @property {number} passed
 * @property {number} failed
 * @property {number} skipped
 * @property {Map<string, number>} reasons why tests were skipped, with how many each
 */

/**
 * @typedef {object} Report what vitest's JSON reporter writes, as far as it is read here
 * @property {{ name: string, status: string, message?: string, assertionResults: { status: string, fullName: string }[] }[]} testResults
 */

/** @returns {Totals} */
export function noTotals() {
  return { passed: 0, failed: 0, skipped: 0, reasons: new Map() };
}

/** @param {Map<string, number>} counts @param {string} key */
function count(counts, key) {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/**
 * Adds one run. A file that could not even be loaded counts as one failure, and so does a run that
 * ended badly although no test says so.
 * @param {Totals} totals
 * @param {Report | null} report null when vitest wrote none
 * @param {number} status vitest's exit status
 * @param {boolean} byTitle whether tests were chosen by title: the others are reported as skipped too
 */
export function addReport(totals, report, status, byTitle) {
  const failedBefore = totals.failed;
  let seen = 0;
  for (const file of report?.testResults ?? []) {
    for (const test of file.assertionResults) {
      seen += 1;
      if (test.status === "passed") totals.passed += 1;
      else if (test.status === "failed") totals.failed += 1;
      else {
        const reason = /\[skipped: (.*?)\]/.exec(test.fullName)?.[1];
        if (reason === undefined && byTitle) continue;
        totals.skipped += 1;
        count(totals.reasons, reason ?? "no reason given");
      }
    }
    if (file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed"))
      totals.failed += 1;
  }
  const nothingFound = seen === 0 && report !== null;
  if (status !== 0 && totals.failed === failedBefore && !nothingFound) totals.failed += 1;
}

/**
 * The last line, and the exit status it goes with. Nothing run is a failure: a filter that matches
 * nothing, or a machine that can run nothing of it, must not look like success.
 * @param {Totals} totals
 */
export function conclude(totals) {
  const line = `${totals.passed} passed, ${totals.failed} failed${totals.skipped > 0 ? `, ${totals.skipped} skipped` : ""}`;
  return { line, status: totals.failed > 0 || totals.passed === 0 ? 1 : 0 };
}
