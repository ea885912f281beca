// What the native build needs and what each step of the build is made from. Pure: facts go in,
// answers come out, so tests can ask about machines that are not there. Knows no process and no
// file system.

/**
 * @typedef {object} Facts
 * @property {string} platform process.platform
 * @property {(command: string) => boolean} onPath
 * @property {string | null} libbpfVersion as pkg-config says, null when it knows none
 */

/** The oldest libbpf whose interfaces the addon uses. */
export const LIBBPF_MIN = "1.1";

/**
 * What is missing for the addon and the XDP programs, in words; empty when they can be built.
 * @param {Facts} facts
 * @returns {string[]}
 */
export function missingForNative(facts) {
  if (facts.platform !== "linux") return [`Linux (this is ${facts.platform})`];
  const missing = [];
  for (const command of ["clang", "cmake", "pkg-config"])
    if (!facts.onPath(command)) missing.push(command);
  if (!facts.onPath("make") && !facts.onPath("ninja")) missing.push("make");
  if (!facts.onPath("c++") && !facts.onPath("g++") && !facts.onPath("clang++"))
    missing.push("a C++ compiler (g++)");
  // Without pkg-config nobody could say which libbpf there is.
  if (facts.onPath("pkg-config")) {
    if (facts.libbpfVersion === null) missing.push(`libbpf >= ${LIBBPF_MIN} (libbpf-dev)`);
    else if (!atLeast(facts.libbpfVersion, LIBBPF_MIN)) {
      missing.push(`libbpf >= ${LIBBPF_MIN} (found ${facts.libbpfVersion})`);
    }
  } else missing.push(`libbpf >= ${LIBBPF_MIN} (libbpf-dev)`);
  return missing;
}

/** @param {string} found @param {string} wanted @returns {boolean} */
export function atLeast(found, wanted) {
  const parts = (/** @type {string} */ text) =>
    text.split(".").map((part) => Number.parseInt(part, 10) || 0);
  const a = parts(found);
  const b = parts(wanted);
  for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/**
 * Why what CMake remembers in build/CMakeCache.txt must not be built on, or null. CMake itself goes
 * on building the folder in which the cache was made: a build/ that was copied along with a checkout
 * would give the programs of somebody else's sources.
 * @param {string} cache its text
 * @param {{ root: string, resolve: (path: string) => string | null }} here the checkout, and where a
 *   path leads: null when nothing is there
 * @returns {string | null}
 */
export function whyNotReuse(cache, { root, resolve }) {
  /** @param {string} key */
  const cached = (key) => new RegExp(`^${key}:[A-Z]+=(.*)$`, "m").exec(cache)?.[1] ?? "";
  const folders = { CMAKE_HOME_DIRECTORY: root, CMAKE_CACHEFILE_DIR: `${root}/build` };
  for (const [key, wanted] of Object.entries(folders)) {
    const found = cached(key);
    if (found === "" || resolve(found) !== resolve(wanted))
      return `was made for ${found || "no folder"}`;
  }
  for (const key of ["CMAKE_COMMAND", "CMAKE_MAKE_PROGRAM", "CMAKE_CXX_COMPILER"]) {
    const found = cached(key);
    if (found === "" || resolve(found) === null)
      return `was made with ${found || `no ${key}`}, which is not there`;
  }
  return null;
}

/** What the native build is made from, and what shows that it is there. */
export const NATIVE = {
  inputs: [
    "CMakeLists.txt",
    "bpf",
    "native",
    "node_modules/node-addon-api/package.json",
    "node_modules/node-api-headers/package.json",
  ],
  outputs: ["build/pointsman.node", "build/bpf"],
  stamp: "build/.stamp.json",
};

/** The same for the JavaScript in dist/: benchmarks import what tests have. */
export const SCRIPT = {
  inputs: [
    "src", "scripts", "bench", "test/support", "package.json", "tsconfig.json", "tsconfig.build.json",
    "node_modules/typescript/package.json", "node_modules/.package-lock.json",
  ],
  outputs: ["dist/src", "dist/scripts"],
  stamp: "dist/.stamp.json",
};

/**
 * What the compiler left in dist/ and would not write again: of sources that are gone, or by other
 * settings. It would be packed and, worse, still be found by an import.
 * @param {readonly string[]} outputs paths below dist/
 * @param {readonly string[]} sources paths below the checkout
 */
export function leftoverOutputs(outputs, sources) {
  const written = new Set(
    sources.filter((path) => path.endsWith(".ts")).flatMap((path) => {
      const stem = path.slice(0, -".ts".length);
      return [`${stem}.js`, `${stem}.d.ts`];
    }),
  );
  return outputs.filter((path) => !written.has(path));
}

/** The same for what is generated: the objects, and the sources that the generator reads. */
export const GENERATED = {
  inputs: ["build/bpf", "bpf", "src", "scripts/generate.ts", "scripts/lab_coverage.ts", "schema", "README.md", "docs"],
  outputs: [],
  stamp: "dist/.generated.json",
};
