// The parts of documents that are generated: between `<!-- NAME: generated from SOURCE -->` and
// `<!-- /NAME -->`. Knows how to find and fill them, and the table of verdicts; reads no file.

export interface Block {
  /** What the marker says it comes from. */
  readonly source: string;
  readonly text: string;
}

/**
 * The document with its blocks filled. A marker without its end, or of an unknown name, is a
 * RangeError.
 */
export function fillBlocks(document: string, blocks: ReadonlyMap<string, Block>): string {
  let filled = document;
  for (const [, name = ""] of document.matchAll(/^<!-- ([a-z-]+): generated\b.*-->$/gm)) {
    const block = blocks.get(name);
    if (block === undefined) throw new RangeError(`nothing generates a block "${name}"`);
    const region = new RegExp(
      `^<!-- ${name}: generated\\b.*-->\\n[\\s\\S]*?^<!-- /${name} -->$`,
      "m",
    );
    if (!region.test(document)) throw new RangeError(`block "${name}" has no end`);
    const text = `<!-- ${name}: generated from ${block.source} -->\n\n${block.text.trim()}\n\n<!-- /${name} -->`;
    filled = filled.replace(region, () => text);
  }
  return filled;
}

const ACTIONS: Readonly<Record<string, string>> = {
  PASS: "to this host's own stack", TX: "sent on", DROP: "dropped",
};

/** The table of verdicts, from `enum verdict` and the comment beside each. */
export function verdictTable(header: string): string {
  const body = /enum verdict \{([\s\S]*?)\n\};/.exec(header)?.[1];
  if (body === undefined) throw new RangeError("bpf/abi.h declares no enum verdict");
  const outcomes = body.matchAll(/\b((PASS|TX|DROP)_[A-Z_]+)\b[^/]*\/\*([\s\S]*?)\*\//g);
  const rows = [...outcomes].map(([, name = "", action = "", comment = ""]) => {
    const meaning = comment.replace(/\s*\n\s*\*?\s*/g, " ").trim().replaceAll("|", "\\|");
    return `| \`${name}\` | ${ACTIONS[action] ?? ""} | ${meaning} |`;
  });
  return ["| verdict | the packet is | because |", "|---|---|---|", ...rows].join("\n");
}
