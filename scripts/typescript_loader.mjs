// Lets Node 20 run the .ts sources of a checkout in worker threads (tests start them from sources). Takes
// types away and nothing else, so line numbers stay. Needs the dev dependencies; never part of the package.

import { readFile } from "node:fs/promises";
import { register } from "node:module";
import { fileURLToPath } from "node:url";

// The module is loaded twice: by --import, where it registers itself, and as the hooks.
if (!new URL(import.meta.url).searchParams.has("hooks")) register(`${import.meta.url}?hooks`);

/** @type {import("node:module").LoadHook} */
export async function load(url, context, nextLoad) {
  if (!url.startsWith("file:") || !url.endsWith(".ts")) return nextLoad(url, context);
  const { default: typescript } = await import("typescript");
  const source = await readFile(fileURLToPath(url), "utf8");
  const { outputText } = typescript.transpileModule(source, {
    fileName: fileURLToPath(url),
    compilerOptions: {
      target: typescript.ScriptTarget.ES2023, module: typescript.ModuleKind.ESNext,
      verbatimModuleSyntax: true, inlineSourceMap: true,
    },
  });
  return { format: "module", source: outputText, shortCircuit: true };
}
