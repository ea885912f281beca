// The initial file system of a virtual machine: a cpio archive in the form that Linux unpacks at
// boot (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel). Knows files, the
// libraries they need and how a script of ours is made ready for Node; knows no kernel and no test.

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import typescript from "typescript";

const DIRECTORY = 0o040755;
export const PLAIN_FILE = 0o100644;
export const PROGRAM = 0o100755;

export class GuestImage {
  readonly #parts: Uint8Array[] = [];
  readonly #known = new Set<string>();

  /** `path` is absolute; the directories above it come along. */
  add(path: string, bytes: Uint8Array, mode: number): void {
    if (this.#known.has(path)) return;
    this.addDirectory(dirname(path));
    this.#entry(path, bytes, mode);
  }

  addDirectory(path: string): void {
    if (path === "/" || this.#known.has(path)) return;
    this.addDirectory(dirname(path));
    this.#entry(path, new Uint8Array(), DIRECTORY);
  }

  /** A file of this machine, under its own path unless told another. */
  addFile(from: string, path = from): void {
    this.add(path, readFileSync(from), (statSync(from).mode & 0o111) !== 0 ? PROGRAM : PLAIN_FILE);
  }

  /** A directory of this machine with everything in it. */
  addTree(from: string, path: string): void {
    for (const entry of readdirSync(from, { withFileTypes: true })) {
      if (entry.isDirectory()) this.addTree(join(from, entry.name), `${path}/${entry.name}`);
      else if (entry.isFile()) this.addFile(join(from, entry.name), `${path}/${entry.name}`);
    }
  }

  /** The shared libraries that a program or library loads, under their own paths. */
  addLibrariesOf(file: string): void {
    const { stdout } = spawnSync("ldd", [file], { encoding: "utf8" });
    for (const [, path] of stdout.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)) this.addFile(path!);
  }

  bytes(): Uint8Array {
    return Buffer.concat([...this.#parts, record("TRAILER!!!", new Uint8Array(), 0, 0)]);
  }

  #entry(path: string, bytes: Uint8Array, mode: number): void {
    this.#known.add(path);
    this.#parts.push(record(path.slice(1), bytes, mode, this.#known.size));
  }
}

/** One entry: a header of 110 hexadecimal characters, the name, the bytes, each padded to four. */
function record(name: string, bytes: Uint8Array, mode: number, inode: number): Buffer {
  const links = mode === DIRECTORY ? 2 : 1;
  const fields = [inode, mode, 0, 0, links, 0, bytes.length, 0, 0, 0, 0, name.length + 1, 0];
  const head = `070701${fields.map((one) => one.toString(16).padStart(8, "0")).join("")}${name}\0`;
  return Buffer.concat([padded(Buffer.from(head, "latin1")), padded(bytes)]);
}

function padded(bytes: Uint8Array): Uint8Array {
  const padding = (4 - (bytes.length % 4)) % 4;
  return padding === 0 ? bytes : Buffer.concat([bytes, new Uint8Array(padding)]);
}

/**
 * Adds a TypeScript program of the checkout and everything it imports, types taken away, below
 * `target`; packages come whole. Returns the path by which Node starts it.
 */
export function addScript(image: GuestImage, root: string, entry: string, target: string): string {
  const waiting = [join(root, entry)];
  const seen = new Set(waiting);
  image.add(`${target}/package.json`, Buffer.from('{ "type": "module" }\n'), PLAIN_FILE);
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    const { outputText } = typescript.transpileModule(readFileSync(path, "utf8"), {
      fileName: path,
      compilerOptions: {
        target: typescript.ScriptTarget.ES2023, module: typescript.ModuleKind.ESNext,
        verbatimModuleSyntax: true, rewriteRelativeImportExtensions: true,
      },
    });
    image.add(`${target}/${asJavaScript(relative(root, path))}`, Buffer.from(outputText), PLAIN_FILE);
    for (const { fileName } of typescript.preProcessFile(outputText).importedFiles) {
      if (!fileName.startsWith(".")) addPackage(image, root, fileName, target);
      else {
        const imported = join(dirname(path), fileName.replace(/\.js$/, ".ts"));
        if (!seen.has(imported)) waiting.push(imported);
        seen.add(imported);
      }
    }
  }
  return `${target}/${asJavaScript(entry)}`;
}

function asJavaScript(path: string): string {
  return path.replace(/\.ts$/, ".js");
}

function addPackage(image: GuestImage, root: string, name: string, target: string): void {
  const from = join(root, "node_modules", name);
  if (name.startsWith("node:") || !existsSync(from)) return;
  image.addTree(from, `${target}/node_modules/${name}`);
  const { dependencies = {} } = JSON.parse(readFileSync(join(from, "package.json"), "utf8")) as {
    dependencies?: Record<string, string>;
  };
  for (const needed of Object.keys(dependencies)) addPackage(image, root, needed, target);
}
