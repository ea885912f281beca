// What set-up has to do on a machine like this one. Pure: facts go in, steps come out, so tests can
// ask about machines and users that are not there. Knows packages and rights; touches nothing.

/**
 * A package, why it is wanted, and what shows that it is there: a command on PATH or a file.
 * Looking for the thing itself accepts a compiler that somebody built by hand.
 * @typedef {object} Package
 * @property {string} name
 * @property {string} because
 * @property {{ command: string } | { files: readonly string[] }} shownBy
 * @property {readonly string[]} [units] services that must not start with the machine because of us
 * @property {string} [unpack] not installed: what the package it depends on holds goes into this
 *   directory of the checkout
 */

/** @param {string} name @param {string} because @param {string} [command] @returns {Package} */
const tool = (name, because, command = name) => ({ name, because, shownBy: { command } });

/**
 * Everything that plain set-up installs. None of it starts a service.
 * @type {readonly Package[]}
 */
export const PLAIN = [
  tool("clang", "compiles the XDP programs"),
  tool("cmake", "builds the addon"),
  tool("make", "builds the addon"),
  tool("g++", "builds the addon"),
  tool("pkg-config", "finds libbpf"),
  {
    name: "libbpf-dev", because: "the addon binds it, the XDP programs include it",
    shownBy: { files: ["/usr/include/bpf/libbpf.h", "/usr/local/include/bpf/libbpf.h"] },
  },
  tool("iproute2", "namespaces of the lab and the tests", "ip"),
  tool("ethtool", "offloads of the lab's interfaces"),
  tool("procps", "settings of the lab's interfaces", "sysctl"),
  tool("iperf3", "traffic of the lab and the tests"),
  tool("wrk", "traffic of the lab and the tests"),
  tool("curl", "traffic of the lab and the tests"),
  tool("iputils-ping", "traffic of the tests", "ping"),
];

/** What `--with` adds, by name. @type {Readonly<Record<string, readonly Package[]>>} */
export const EXTRAS = {
  bench: [
    { ...tool("haproxy", "a peer to compare with"), units: ["haproxy.service"] },
    { ...tool("nginx", "a peer to compare with"), units: ["nginx.service"] },
    {
      name: "libnginx-mod-stream", because: "nginx as a TCP and UDP proxy",
      shownBy: { files: ["/usr/lib/nginx/modules/ngx_stream_module.so"] },
    },
    { ...tool("nftables", "a peer to compare with", "nft"), units: ["nftables.service"] },
  ],
  servers: [
    { ...tool("nginx", "a real server behind the balancer"), units: ["nginx.service"] },
    { ...tool("haproxy", "reads the PROXY protocol that we write"), units: ["haproxy.service"] },
    { ...tool("redis-server", "a real server to probe"), units: ["redis-server.service"] },
    {
      name: "postgresql", because: "a real server to probe", units: ["postgresql.service"],
      shownBy: { files: [13, 14, 15, 16, 17, 18].map((version) => `/usr/lib/postgresql/${version}/bin/postgres`) },
    },
    { ...tool("mariadb-server", "a real server to probe", "mariadbd"), units: ["mariadb.service"] },
    tool("dnsmasq-base", "a real server to probe", "dnsmasq"),
    { ...tool("exim4-daemon-light", "a real server to probe", "exim4"), units: ["exim4.service", "exim4-base.timer"] },
  ],
  golden: [{
    name: "python3-scapy", because: "writes the golden packets with code that is not ours",
    shownBy: { files: ["/usr/lib/python3/dist-packages/scapy/__init__.py"] },
  }],
  "old-kernel": [
    tool("qemu-system-x86", "boots an older kernel", "qemu-system-x86_64"),
    tool("busybox-static", "the older kernel's first programs", "busybox"),
    {
      name: "linux-image-cloud-amd64", because: "an older kernel, unpacked and not installed",
      shownBy: { files: ["build/old-kernel/boot"] }, unpack: "build/old-kernel",
    },
  ],
  fuzz: [{
    name: "libclang-rt-14-dev", because: "libFuzzer and the sanitizers",
    shownBy: {
      files: ["x86_64", "aarch64"].map((machine) => `/usr/lib/clang/14/lib/linux/libclang_rt.fuzzer-${machine}.a`),
    },
  }],
  vagrant: [tool("vagrant", "validates the Vagrantfile")],
  ci: [
    tool("clang-14", "the oldest compiler we support"),
    tool("clang-19", "the newest compiler we support"),
  ],
};

/**
 * @typedef {object} Facts
 * @property {string} platform
 * @property {{ id: string, like: string, version: string }} system of /etc/os-release
 * @property {number} uid
 * @property {number} ownerUid of the clone
 * @property {boolean} tty whether somebody can type a password
 * @property {"works" | "asks" | "absent"} sudo
 * @property {boolean} apt whether apt-get is there
 * @property {string} policy POINTSMAN_SETUP, or ""
 * @property {"all" | "proxy"} plane
 * @property {readonly string[]} extras names given with --with
 * @property {readonly string[]} present names of packages that are there
 * @property {boolean} dependenciesFresh
 * @property {boolean} built
 */

/** @typedef {"none" | "sudo -n" | "sudo"} Through */

/**
 * @typedef {{ do: "say", text: string }
 *   | { do: "npm" }
 *   | { do: "apt", packages: readonly string[], units: readonly string[], through: Through, required: boolean }
 *   | { do: "unpack", package: string, into: string }
 *   | { do: "build" }
 *   | { do: "give-back" }} Step
 */

/** Names given with --with that nobody knows. @param {readonly string[]} extras */
export function unknownExtras(extras) {
  return extras.filter((name) => !Object.hasOwn(EXTRAS, name));
}

/**
 * The packages a run with these facts wants, each once.
 * @param {Facts} facts
 * @returns {Package[]}
 */
export function wantedPackages(facts) {
  if (facts.platform !== "linux") return [];
  /** @type {Map<string, Package>} */
  const wanted = new Map();
  if (facts.plane === "all") for (const one of PLAIN) wanted.set(one.name, one);
  for (const name of facts.extras) for (const one of EXTRAS[name] ?? []) wanted.set(one.name, one);
  return [...wanted.values()];
}

/**
 * The steps, in order; none when all is there.
 * @param {Facts} facts
 * @returns {Step[]}
 */
export function planSetup(facts) {
  /** @type {Step[]} */
  const steps = [];
  if (!facts.dependenciesFresh) steps.push({ do: "npm" });
  steps.push(...planPackages(facts));
  const installs = steps.some((step) => step.do === "apt");
  // What apt brings may make possible what could not be built before.
  if (!facts.built || !facts.dependenciesFresh || installs) steps.push({ do: "build" });
  if (
    steps.some((step) => step.do === "npm" || step.do === "build") &&
    facts.uid === 0 &&
    facts.ownerUid !== 0
  ) {
    steps.push({ do: "give-back" });
  }
  return steps;
}

/** @param {Facts} facts @returns {Step[]} */
function planPackages(facts) {
  const missing = wantedPackages(facts).filter((one) => !facts.present.includes(one.name));
  if (missing.length === 0) return [];
  const names = missing.map((one) => one.name);
  const asked = facts.extras.flatMap((extra) => (EXTRAS[extra] ?? []).map((one) => one.name));
  const required = names.some((name) => asked.includes(name));
  const refusal = refuseApt(facts);
  if (refusal !== null) {
    const remedy = facts.apt
      ? ` (as root: apt-get install --no-install-recommends ${names.join(" ")})`
      : "";
    const text = `not installed, since ${refusal}: ${names.join(", ")}${remedy}. The proxy plane needs none of it`;
    return [{ do: "say", text }];
  }
  const through = facts.uid === 0 ? "none" : facts.sudo === "works" ? "sudo -n" : "sudo";
  const installed = missing.filter((one) => one.unpack === undefined);
  /** @type {Step[]} */
  const steps = [
    {
      do: "say",
      text: `installing from apt: ${missing.map((one) => `${one.name} (${one.because})`).join(", ")}`,
    },
  ];
  if (installed.length > 0) {
    const packages = installed.map((one) => one.name);
    const units = installed.flatMap((one) => one.units ?? []);
    steps.push({ do: "apt", packages, units, through, required });
  }
  for (const one of missing)
    if (one.unpack !== undefined) steps.push({ do: "unpack", package: one.name, into: one.unpack });
  return steps;
}

/** Why apt is not to be used, or null. @param {Facts} facts @returns {string | null} */
export function refuseApt(facts) {
  if (facts.policy === "no-apt") return "POINTSMAN_SETUP=no-apt forbids it";
  if (!facts.apt) return "this system has no apt";
  if (!isSupported(facts.system)) {
    return `${facts.system.id} ${facts.system.version} is older than Debian 12 and Ubuntu 24.04, or another system`;
  }
  if (facts.uid === 0 || facts.sudo === "works") return null;
  if (facts.sudo === "asks" && facts.tty) return null;
  return facts.sudo === "asks"
    ? "this is not root, and sudo would ask for a password"
    : "this is not root, and there is no sudo";
}

/**
 * Debian 12+, Ubuntu 24.04+, testing versions without a number, and what derives from them.
 * @param {Facts["system"]} system
 */
export function isSupported({ id, like, version }) {
  const number = Number.parseFloat(version);
  if (id === "debian") return version === "" || number >= 12;
  if (id === "ubuntu") return number >= 24.04;
  return /\b(debian|ubuntu)\b/.test(like);
}

/**
 * /etc/os-release as far as it matters here.
 * @param {string} text
 * @returns {Facts["system"]}
 */
export function parseOsRelease(text) {
  /** @param {string} key */
  const value = (key) => new RegExp(`^${key}="?([^"\\n]*)"?$`, "m").exec(text)?.[1] ?? "";
  return { id: value("ID"), like: value("ID_LIKE"), version: value("VERSION_ID") };
}

/**
 * @typedef {{ version?: string, integrity?: string, optional?: boolean, os?: string[], cpu?: string[], libc?: string[] }} Locked
 * @typedef {{ packages?: Record<string, Locked> }} LockFile
 */

/**
 * True when npm's own record of node_modules holds everything that the lock file asks for on this
 * machine: so an `npm ci` by hand is not repeated.
 * @param {LockFile} lock
 * @param {LockFile} installed node_modules/.package-lock.json
 * @param {{ platform: string, arch: string }} machine
 */
export function installedMatches(lock, installed, machine) {
  return Object.entries(lock.packages ?? {}).every(([path, wanted]) => {
    if (path === "") return true;
    const found = installed.packages?.[path];
    if (found !== undefined)
      return found.version === wanted.version && found.integrity === wanted.integrity;
    if (wanted.optional !== true) return false;
    // Optional ones are for one platform each; which C library this is, npm knows better than we
    // do.
    const fits =
      (wanted.os?.includes(machine.platform) ?? true) &&
      (wanted.cpu?.includes(machine.arch) ?? true);
    return !fits || wanted.libc !== undefined;
  });
}

/** The oldest Node that the dependencies run on. */
export const NODE_MIN = "20.19.0";
