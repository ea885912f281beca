// What every command line of ours shares: the common options, a client for the length of a verb, and the
// parsers of arguments. Knows commander; knows no verb.

import type { Command } from "commander";
import { InvalidArgumentError, Option } from "commander";
import type { Client } from "../api/client.ts";
import { NAME_PATTERN } from "../config/formats.ts";
import { refuseForeignPlace } from "../supervisor/own_place.ts";
import { controlSocketPath } from "../supervisor/places.ts";
import type { Io } from "./io.ts";

export type Output = "table" | "json";
export interface Common {
  readonly instance: string;
  readonly socket?: string;
  readonly output: Output;
  readonly watch?: boolean;
}

/** Takes the exit code of a verb. */
export type End = (code: number) => void;

/** A subcommand that inherits exitOverride and the output; `-o` and `--instance` on those that want them. */
export function command(
  parent: Command,
  name: string,
  description: string,
  wants: { readonly output?: boolean; readonly instance?: boolean; readonly watch?: boolean },
): Command {
  const made = parent.command(name).description(description);
  if (wants.instance === true) {
    made.option("--instance <name>", "the instance to speak to", instanceName, "main");
    made.option("--socket <path>", "its control socket, when it is not in the usual place", socketPath);
  }
  if (wants.output === true)
    made.addOption(new Option("-o, --output <format>", "how to print").choices(["table", "json"]).default("table"));
  if (wants.watch === true) made.option("-w, --watch", "print again as things change", false);
  return made;
}

/** Where the instance is spoken to. Throws when the kernel would cut the path, or another user may listen there. */
export function socketOf(io: Io, options: { readonly instance: string; readonly socket?: string }): string {
  const path = controlSocketPath(options.instance, io.env, options.socket ?? null);
  refuseForeignPlace(path, io.env);
  return path;
}

/** Connects, uses, and closes also when the use fails. */
export async function withClient<T>(
  io: Io,
  options: { readonly instance: string; readonly socket?: string },
  use: (client: Client) => Promise<T>,
): Promise<T> {
  const client = io.connect(socketOf(io, options), options.instance);
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}

/** The name ends up in paths of sockets and pins, so it is checked before it is used. */
function instanceName(text: string): string {
  if (!new RegExp(NAME_PATTERN).test(text)) throw new InvalidArgumentError(`A name matches ${NAME_PATTERN}.`);
  return text;
}

/** Node takes an empty path for the name of a host. */
function socketPath(text: string): string {
  if (text === "") throw new InvalidArgumentError("It has to be the path of a socket.");
  return text;
}

/** Parses an argument; anything but a whole number in the range is a usage error. */
export function wholeNumber(from: number, to: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < from || value > to)
      throw new InvalidArgumentError(`It has to be a whole number from ${from} to ${to}.`);
    return value;
  };
}

/** For options that may be given several times. */
export function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}
