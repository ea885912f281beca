// `quic-lb encode` and `quic-lb decode` on the command line: their options and help. Knows commander;
// quic_lb.ts does the work.

import type { Command } from "commander";
import { InvalidArgumentError } from "commander";
import type { Common, End } from "./command.ts";
import { command, wholeNumber } from "./command.ts";
import type { Io } from "./io.ts";
import type { DecodeOptions, EncodeOptions } from "./quic_lb.ts";
import { QUIC_CONFIG_IDS, QUIC_NONCE_BYTES_MAX, QUIC_SERVER_ID_BYTES_MAX } from "../model/quic_lb.ts";

const COUNT_MAX = 100_000;

export function addQuicLb(program: Command, io: Io, end: End): void {
  const group = program.command("quic-lb").description("QUIC connection IDs that say their server (QUIC-LB)");
  sourceOptions(command(group, "encode", "mint connection IDs, as a server does", { output: true }))
    .option("--backend <name>", "with -c: whose IDs, by pool/backend or a bare name")
    .option("--server-id <hex>", "without -c, or one of several that the backend has", hexDigits)
    .option("--nonce <hex>", "for tests: a nonce must never be used twice; random unless given", hexDigits)
    .option("--length-encoded", "without -c: the first byte says the length", false)
    .option("--count <n>", "so many IDs", wholeNumber(1, COUNT_MAX), 1)
    .action(async (options: Common & EncodeOptions) => {
      const { encodeVerb } = await import("./quic_lb.ts");
      end(encodeVerb(io, options));
    });
  sourceOptions(command(group, "decode", "what a connection ID says, and whose it is", { output: true }))
    .argument("<id>", "in hexadecimal digits", connectionId)
    .option("--server-id-bytes <n>", "without -c", wholeNumber(1, QUIC_SERVER_ID_BYTES_MAX))
    .action(async (id: string, options: Common & DecodeOptions) => {
      const { decodeVerb } = await import("./quic_lb.ts");
      end(decodeVerb(io, id, options));
    });
}

/** Where the parameters come from: a service of a file, or the command line. */
function sourceOptions(made: Command): Command {
  return made
    .option("-c, --config <file>", "a configuration file whose service has quicLb")
    .option("--service <name>", "with -c: which service, when several have quicLb")
    .option("--config-id <n>", "which config; 0 without -c", wholeNumber(0, QUIC_CONFIG_IDS - 1))
    .option("--nonce-bytes <n>", "without -c", wholeNumber(1, QUIC_NONCE_BYTES_MAX))
    .option("--key <key>", "without -c: file:PATH, or 32 hexadecimal digits, which other users can see in ps");
}

function hexDigits(text: string): string {
  if (!/^([0-9a-fA-F]{2})+$/.test(text)) throw new InvalidArgumentError("It has to be pairs of hexadecimal digits.");
  return text.toLowerCase();
}

export function connectionId(text: string): string {
  const digits = hexDigits(text);
  if (digits.length > 40) throw new InvalidArgumentError("A connection ID has at most 20 bytes.");
  return digits;
}
