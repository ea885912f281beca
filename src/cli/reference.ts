// The command line as a document: every verb and noun with its arguments and options, as commander was
// told. Knows how they are laid out; no command runs here.

import type { Argument, Command, Option } from "commander";
import type { Env } from "../env.ts";
import type { Io } from "./io.ts";
import { createProgram } from "./program.ts";

const refuse = (): never => { throw new Error("no command runs for its reference"); };
/** Only actions ask for it. */
const NOBODY: Io = {
  get env(): Env { return refuse(); },
  out: refuse, err: refuse, isTty: false, columns: 80, actor: "", confirm: refuse,
  interrupted: new AbortController().signal, onHangup: refuse, onUpgradeSignal: refuse, connect: refuse,
};

/** One section per command. */
export function commandReference(): string {
  return sectionsOf(createProgram(NOBODY, { code: 0 }), "").join("\n");
}

function sectionsOf(parent: Command, prefix: string): string[] {
  return parent.commands.flatMap((command) => {
    const name = `${prefix}${command.name()}`;
    const isGroup = command.commands.length > 0 && command.options.length === 0;
    return [...(isGroup ? [] : [section(command, name)]), ...sectionsOf(command, `${name} `)];
  });
}

function section(command: Command, name: string): string {
  const usage = [name, ...command.registeredArguments.map(argumentText)].join(" ");
  const meanings = command.registeredArguments.filter(({ description }) => description !== "")
    .map((each) => `\`${each.name()}\`: ${each.description}.\n`).join("");
  const options = command.options.map(row).join("");
  const table = options === "" ? "" : `\n| option | meaning | default |\n|---|---|---|\n${options}`;
  return `## \`${usage}\`\n\n${capitalised(command.description())}.\n${meanings}${table}`;
}

function argumentText(argument: Argument): string {
  return argument.required ? `<${argument.name()}>` : `[${argument.name()}]`;
}

function row(option: Option): string {
  const choices = option.argChoices === undefined ? "" : ` (${option.argChoices.join(", ")})`;
  const given: unknown = option.defaultValue;
  const usual = option.mandatory ? "required"
    : typeof given === "string" || typeof given === "number" ? `\`${given}\`` : "";
  const cell = (text: string): string => text.replaceAll("|", "\\|");
  return `| \`${option.flags}\` | ${cell(option.description + choices)} | ${usual} |\n`;
}

function capitalised(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
