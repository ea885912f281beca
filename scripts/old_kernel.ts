// `npm run old-kernel`: boots Debian 12's kernel (6.1) under qemu's software emulation, loads every
// program there and sends the golden packets through (test/old_kernel/guest.ts). Files the result
// under test/results. Knows qemu and what the guest needs; knows no packet.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { describeMachine } from "../bench/machine.ts";
import { compileBpfFile, compilersHere } from "./compile_bpf.ts";
import { GuestImage, PROGRAM, addScript } from "./guest_image.ts";
import { onPath } from "./search_path.ts";
import { ROOT } from "./lab_services.ts";

/** Where `npm run setup -- --with old-kernel` puts it. */
const KERNEL_DIRECTORY = join(ROOT, "build/old-kernel/boot");
const BUSYBOX = "/bin/busybox";
const QEMU = "qemu-system-x86_64";
const MEMORY_MIB = 1024;
/** A minute is usual. */
const PATIENCE_MS = 600_000;

export interface OldKernelReport {
  readonly kernel: string;
  /** Loaded, in all their shapes. */
  readonly programs: number;
  /** Sent through and compared. */
  readonly packets: number;
  readonly failures: readonly string[];
  /** What was made to fail, and was seen to: once for each compiler. */
  readonly noticed: readonly string[];
}

/** Why no older kernel can be booted here, or null. */
export function whyNoOldKernel(): string | null {
  const remedy = "(npm run setup -- --with old-kernel)";
  if (process.platform !== "linux" || process.arch !== "x64")
    return `the older kernel is one for x86-64 Linux; this is ${process.platform}, ${process.arch}`;
  if (!onPath(QEMU)) return `${QEMU} is not installed ${remedy}`;
  if (!existsSync(BUSYBOX)) return `${BUSYBOX} is not there ${remedy}`;
  if (kernelPath() === null) return `${relative(ROOT, KERNEL_DIRECTORY)} has no kernel ${remedy}`;
  for (const product of ["build/pointsman.node", "build/bpf/decap.bpf.o"])
    if (!existsSync(join(ROOT, product))) return `${product} is not built (npm run build)`;
  return compilersHere().length > 0 ? null : "clang is not installed (npm run setup)";
}

function kernelPath(): string | null {
  if (!existsSync(KERNEL_DIRECTORY)) return null;
  const name = readdirSync(KERNEL_DIRECTORY).find((one) => one.startsWith("vmlinuz-"));
  return name === undefined ? null : join(KERNEL_DIRECTORY, name);
}

/** Boots it, waits for what the guest has to say, and returns that. */
export async function bootOldKernel(): Promise<OldKernelReport> {
  const scratch = mkdtempSync(join(tmpdir(), "pointsman-old-kernel-"));
  try {
    const image = join(scratch, "initramfs");
    writeFileSync(image, makeImage(scratch));
    const said = await boot(image);
    const [, report] = /^REPORT (\{.*\})\s*$/m.exec(said) ?? [];
    if (report === undefined) throw new Error(`the guest reported nothing:\n${said.slice(-4000)}`);
    return JSON.parse(report) as OldKernelReport;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function makeImage(scratch: string): Uint8Array {
  const image = new GuestImage();
  const addon = join(ROOT, "build/pointsman.node");
  image.addFile(process.execPath, "/bin/node");
  for (const program of [process.execPath, addon]) image.addLibrariesOf(program);
  image.addFile(BUSYBOX);
  image.addFile(addon, "/pointsman/pointsman.node");
  const packets = "test/golden/packets/packets.json";
  image.addFile(join(ROOT, packets), `/pointsman/${packets}`);
  for (const clang of compilersHere()) addObjects(image, clang, scratch);
  const script = addScript(image, ROOT, "test/old_kernel/guest.ts", "/pointsman");
  for (const path of ["/proc", "/sys", "/dev", "/tmp"]) image.addDirectory(path);
  image.add(
    "/init",
    Buffer.from(
      [
        "#!/bin/busybox sh",
        "export PATH=/bin HOME=/tmp",
        "/bin/busybox --install -s /bin",
        "mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev",
        "mount -t bpf bpf /sys/fs/bpf && ip link set lo up",
        `node ${script} /pointsman/pointsman.node /pointsman/objects`,
        "poweroff -f",
        "",
      ].join("\n"),
    ),
    PROGRAM,
  );
  return image.bytes();
}

/** What clang makes of the programs, and of the one that tests send packets through. */
function addObjects(image: GuestImage, clang: string, scratch: string): void {
  const bpf = join(ROOT, "bpf");
  const sources = {
    pointsman: join(bpf, "pointsman.bpf.c"),
    decap: join(bpf, "decap.bpf.c"),
    probe: join(bpf, "probe.bpf.c"),
    trial: join(ROOT, "test/kernel/fixtures/trial.bpf.c"),
    newer: join(ROOT, "test/old_kernel/newer.bpf.c"),
  };
  for (const [name, source] of Object.entries(sources)) {
    const output = join(scratch, `${clang}-${name}.bpf.o`);
    compileBpfFile(clang, source, output, [bpf]);
    image.addFile(output, `/pointsman/objects/${clang}/${name}.bpf.o`);
  }
}

async function boot(image: string): Promise<string> {
  const machine = spawn(
    QEMU,
    [
      "-accel", "tcg", "-cpu", "max", "-m", String(MEMORY_MIB), "-nodefaults", "-no-reboot",
      "-display", "none", "-serial", "stdio", "-kernel", kernelPath()!, "-initrd", image,
      "-append", "console=ttyS0 panic=-1 quiet",
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const patience = setTimeout(() => machine.kill("SIGKILL"), PATIENCE_MS);
  const said: Buffer[] = [];
  machine.stdout.on("data", (bytes: Buffer) => said.push(bytes));
  machine.stderr.on("data", (bytes: Buffer) => said.push(bytes));
  try {
    await new Promise<void>((resolve, reject) => {
      machine.once("error", reject);
      machine.once("close", () => { resolve(); });
    });
  } finally {
    clearTimeout(patience);
    machine.kill("SIGKILL");
  }
  return Buffer.concat(said).toString();
}

/** What was seen, with the machine that saw it; the path, from the root. */
export function fileReport(report: OldKernelReport, seconds: number): string {
  const directory = join(ROOT, "test/results");
  const path = join(directory, "old-kernel.json");
  mkdirSync(directory, { recursive: true });
  const result = {
    when: new Date().toISOString(), command: "npm run old-kernel", machine: describeMachine(),
    compilers: compilersHere(), seconds, ...report,
  };
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
  return relative(ROOT, path);
}

async function main(): Promise<number> {
  const why = whyNoOldKernel();
  if (why !== null) {
    process.stderr.write(`old-kernel: ${why}\n`);
    return 1;
  }
  const begun = Date.now();
  const report = await bootOldKernel();
  for (const failure of report.failures) process.stdout.write(`FAILED ${failure}\n`);
  const path = fileReport(report, Math.round((Date.now() - begun) / 1000));
  process.stdout.write(
    `Linux ${report.kernel}: ${report.programs} programs loaded, ${report.packets} packets compared, ` +
      `${report.failures.length} failures; filed in ${path}\n`,
  );
  return report.failures.length === 0 ? 0 : 1;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  process.exitCode = await main();
