// The command line: every verb and noun, its options and its help, in one place. Knows commander and the
// verbs' functions, and loads those when they are asked for that need the config's or the planes' code, or every
// verb would start as slowly as the slowest; knows no socket, map or file itself. Ends with an exit code, never with process.exit.

import { Command, CommanderError, Option } from "commander";
import type { Client } from "../api/client.ts";
import { eventKindSchema } from "../api/schemas.ts";
import { formatProblems } from "../config/problem_lines.ts";
import { Failure, isFailure, systemFailure } from "../errors.ts";
import { VERSION } from "../version.ts";
import { applyVerb, ASK_ABOVE, planVerb, printApplied, printRemoved } from "./changes.ts";
import type { BenchOptions } from "./bench.ts";
import type { DecapVerbOptions } from "./decap.ts";
import type { DoctorOptions } from "./doctor.ts";
import { printEvents, type EventsOptions } from "./events.ts";
import type { Common, End } from "./command.ts";
import { collect, command, socketOf, wholeNumber, withClient } from "./command.ts";
import type { Io } from "./io.ts";
import { EXIT, exitCodeOf } from "./io.ts";
import { layBackends, layOverrides, layServices, layStatus, printNoun, type NounOptions } from "./nouns.ts";
import { addOverrides } from "./override_commands.ts";
import { addQuicLb, connectionId } from "./quic_lb_commands.ts";
import { percent } from "./table.ts";
import { statusVerb } from "./unsupervised.ts";
import { addUpgrade } from "./upgrade.ts";

const DEFAULT_FILE = "/etc/pointsman/pointsman.yaml";

/** Runs a command line (without node and script) and resolves to the exit code. */
export async function runCli(argv: readonly string[], io: Io): Promise<number> {
  const result = { code: EXIT.done as number };
  const program = createProgram(io, result);
  try {
    await program.parseAsync([...argv], { from: "user" });
    return result.code;
  } catch (error) {
    return explainError(io, error);
  }
}

function explainError(io: Io, error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  const failure = error instanceof Failure ? (error as Failure) : systemFailure(error);
  if (failure === null) {
    io.err(bugText(error));
    return EXIT.bug;
  }
  io.err(`pointsman: ${failure.code}: ${failure.message}\n`);
  if (isFailure(failure, "CONFIG_INVALID")) io.err(`${formatProblems(failure.details.problems)}\n`);
  return exitCodeOf(failure);
}

export function bugText(error: unknown): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `pointsman: this is a bug, please report it: ${text}\n`;
}

/** `result` gets the exit code of the command that runs. */
export function createProgram(io: Io, result: { code: number }): Command {
  const program = new Command("pointsman");
  program
    .description(
      "A layer-4 TCP/UDP load balancer: an XDP fast path, a proxy where XDP cannot run, one config for both.",
    )
    .version(VERSION, "-V, --version")
    .showHelpAfterError("(see pointsman --help)")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => {
        io.out(text);
      },
      writeErr: (text) => {
        io.err(text);
      },
    });
  const end = (code: number): void => {
    result.code = code;
  };
  addRunning(program, io, end);
  addFiles(program, io, end);
  addNouns(program, io, end);
  addOverrides(program, io, end);
  addOverridesNoun(program, io, end);
  addQuestions(program, io, end);
  addQuicLb(program, io, end);
  addHost(program, io, end);
  return program;
}

function addRunning(program: Command, io: Io, end: End): void {
  command(program, "run", "run the supervisor in the foreground", {})
    .option("-c, --config <file>", "configuration file", DEFAULT_FILE)
    .option("--watch-config", "reload when the file changes", false)
    .option("--detach-on-exit", "stop forwarding when the supervisor ends (xdp goes on otherwise)", false)
    .addOption(new Option("--proxy-bind <where>", "where the proxy plane listens").choices(["vip", "loopback", "any"]))
    .option("--port-offset <number>", "added to every port that the proxy plane listens on", wholeNumber(0, 65535))
    .option("--state-directory <path>", "overrides, seed and revisions")
    .option("--exec-hooks", "let quorums of pools run their commands, with this process's rights", false)
    .option("--exec-probes", "let health checks of type exec run their commands, with this process's rights", false)
    .action(async (options: RunOptions) => {
      const { runVerb } = await import("./run.ts");
      end(await runVerb(io, options));
    });
  addUpgrade(program, io, end);
  command(program, "detach", "stop forwarding and remove programs, maps and pins, supervised or not", {
    instance: true,
  }).action(async (options: Common) => {
    const { detachVerb } = await import("./unsupervised.ts");
    end(await detachVerb(io, options.instance, socketOf(io, options)));
  });
}

export interface RunOptions {
  readonly config: string;
  readonly watchConfig: boolean;
  readonly detachOnExit: boolean;
  readonly proxyBind?: "vip" | "loopback" | "any";
  readonly portOffset?: number;
  readonly stateDirectory?: string;
  readonly execProbes: boolean;
  readonly execHooks: boolean;
}

function addFiles(program: Command, io: Io, end: End): void {
  command(program, "check <file>", "validate a configuration file and print every problem", { output: true }).action(
    async (file: string, options: Common) => {
      const { checkVerb } = await import("./check.ts");
      end(await checkVerb(io, file, options.output));
    },
  );
  command(program, "plan <file>", "what applying a file would do to the running instance", {
    output: true,
    instance: true,
  })
    .option("--from <file>", "compare with this file instead of a running instance")
    .option("--exit-code", "end with 3 when something would change", false)
    .action(async (file: string, options: Common & { readonly from?: string; readonly exitCode: boolean }) => {
      if (options.from !== undefined) {
        const { offlinePlanVerb } = await import("./questions.ts");
        end(await offlinePlanVerb(io, options.from, file, options));
      } else end(await withClient(io, options, (client) => planVerb(io, client, file, options)));
    });
  command(program, "apply <file>", "validate, plan, apply and record a revision", { output: true, instance: true })
    .option("-y, --yes", "do not ask; on a terminal, apply asks first where more than"
      + ` ${percent(ASK_ABOVE.movedShare)} of a service's slots would move, or more than`
      + ` ${percent(ASK_ABOVE.brokenShare)} of its slots or of the live flows would break`, false)
    .action(async (file: string, options: Common & { readonly yes: boolean }) => {
      end(await withClient(io, options, (client) => applyVerb(io, client, file, options)));
    });
  command(program, "reload", "read the file given to `run` again", { output: true, instance: true }).action(
    async (options: Common) => {
      end(
        await withClient(io, options, async (client) =>
          printApplied(io, await client.reload(io.actor), options.output),
        ),
      );
    },
  );
  command(program, "rollback", "return to an earlier revision: one of the ten before the current", { output: true, instance: true })
    .argument(
      "[revision]",
      "its number; the one before the current unless given",
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
    )
    .action(async (revision: number | undefined, options: Common) => {
      end(
        await withClient(io, options, async (client) =>
          printApplied(io, await client.rollback(revision ?? null, io.actor), options.output),
        ),
      );
    });
  const config = program.command("config").description("the configuration itself");
  command(config, "show", "print a configuration", { instance: true })
    .option("-c, --config <file>", "this file instead of the running instance's")
    .option("--effective", "with every default filled in", false)
    .action(async (options: Common & { readonly config?: string; readonly effective: boolean }) => {
      const { showConfigVerb } = await import("./check.ts");
      end(await showConfigVerb(io, options, () => withClient(io, options, (client) => client.config())));
    });
}

/** A command that prints what is. */
function noun(program: Command, name: string, description: string): Command {
  return command(program, name, description, { output: true, instance: true, watch: true });
}

function askNoun<T>(
  io: Io,
  options: Common,
  ask: (client: Client) => Promise<T>,
  lay: (value: T) => string,
): Promise<void> {
  const { output, watch = false } = options;
  return withClient(io, options, (client) => printNoun(io, { output, watch }, () => ask(client), lay));
}

function addNouns(program: Command, io: Io, end: End): void {
  const now = (): number => io.env.clock.wallMs();
  noun(program, "status", "what is running, in which mode, and why").action(async (options: Common) => {
    end(
      await statusVerb(io, options.instance, () =>
        askNoun(io, options, (client) => client.status(), (status) => layStatus(status, now())),
      ),
    );
  });
  noun(program, "services", "services and where they listen").action(async (options: Common) => {
    await askNoun(io, options, (client) => client.services(), layServices);
  });
  noun(program, "backends", "backends: health, weight, slots, flows").action(async (options: Common) => {
    await askNoun(io, options, (client) => client.backends(), (backends) => layBackends(backends, now()));
  });
  noun(program, "events", "what happened")
    .option("--since <id>", "only events after this one", wholeNumber(0, Number.MAX_SAFE_INTEGER), 0)
    .addOption(new Option("--kind <kind...>", "only events of these kinds").choices(eventKindSchema.options).default([]))
    .option("--subject <name>", "only what happened to it: a backend, a pool with its backends, a service (repeatable)", collect, [])
    .option("--verbose", "with the probes that led to a change of health", false)
    .action(async (options: Common & Omit<EventsOptions, keyof NounOptions>) => {
      await withClient(io, options, (client) => printEvents(io, client, { ...options, watch: options.watch ?? false }));
    });
}

function addOverridesNoun(program: Command, io: Io, end: End): void {
  const now = (): number => io.env.clock.wallMs();
  const overrides = noun(program, "overrides", "what operators and programs have overridden").action(
    async (options: Common) => {
      await askNoun(io, options, (client) => client.overrides(), (value) => layOverrides(value, now()));
    },
  );
  command(overrides, "clear [backend]", "clear the overrides of a backend, or all", {}).action(
    async (backend: string | undefined, _: unknown, self: Command) => {
      const options = self.optsWithGlobals<Common>();
      end(
        await withClient(io, options, async (client) =>
          printRemoved(
            io,
            await client.clearOverrides({ target: backend ?? null, kind: null, actor: io.actor }),
            options.output,
          ),
        ),
      );
    },
  );
}

function addQuestions(program: Command, io: Io, end: End): void {
  const question = (name: string, description: string): Command =>
    command(program, name, description, { output: true, instance: true })
      .option("-c, --config <file>", "answer from this file, without a running instance")
      .option("--hash-seed <hex>", "16 hex digits, when the file's seed cannot be read");
  question("explain <client> <service>", "which backend CLIENT:PORT meets at SERVICE, and why")
    .option("--connection-id <hex>", "of a QUIC packet that carries this one", connectionId)
    .option("--to <address:port>", "what the client asks for, of a service with several addresses or ports")
    .action(async (client: string, service: string, options: ExplainOptions) => {
      const { explainVerb } = await import("./questions.ts");
      end(await explainVerb(io, client, service, options, (use) => withClient(io, options, use)));
    });
  question("ring <service>", "slots per backend, and what a change would move")
    .option("--down <backend>", "with this backend unhealthy (repeatable)", collect, [])
    .option("--remove <backend>", "with this backend gone from the config (repeatable)", collect, [])
    .action(
      async (service: string, options: QuestionOptions & { readonly down: string[]; readonly remove: string[] }) => {
        const { ringVerb } = await import("./questions.ts");
        end(await ringVerb(io, service, options, (use) => withClient(io, options, use)));
      },
    );
  command(program, "replay", "run captured packets through the real XDP program", { output: true })
    .requiredOption("-c, --config <file>", "configuration file")
    .requiredOption("--in <pcap>", "pcap or pcapng with Ethernet frames")
    .option("--out <pcap>", "where the packets go that were not dropped")
    .option("--hash-seed <hex>", "16 hex digits, when the file's seed cannot be read")
    .action(
      async (
        options: Common & {
          readonly config: string;
          readonly in: string;
          readonly out?: string;
          readonly hashSeed?: string;
        },
      ) => {
        const { replayVerb } = await import("./replay.ts");
        end(await replayVerb(io, options));
      },
    );
}

interface ExplainOptions extends QuestionOptions {
  readonly connectionId?: string;
  readonly to?: string;
}

export interface QuestionOptions extends Common {
  readonly config?: string;
  readonly hashSeed?: string;
}

function addHost(program: Command, io: Io, end: End): void {
  command(program, "doctor", "what this host can do, which mode `auto` would choose, and what is missing", {
    output: true,
  })
    .option("-c, --config <file>", "check against this file's interfaces and services")
    .option("--return-path [address...]", "with -c: test whether answers of nat backends come back through this host, from"
      + " an address, one for each IP version, that stands in for a client's and is put on lo meanwhile")
    .action(async (options: DoctorOptions) => {
      const { doctorVerb } = await import("./doctor.ts");
      end(await doctorVerb(io, options));
    });
  command(program, "decap", "on a backend: unwrap tunnelled packets for its virtual addresses, until ended", {
    output: true,
  })
    .requiredOption("--interface <name>", "where they arrive")
    .option("--address <ip>", "a virtual address or a prefix of them (repeatable); every address of this host unless given", collect, [])
    .option("--local <ip>", "an address or prefix that tunnels end at (repeatable); this host's own, followed, unless given", collect, [])
    .option("--source <ip>", "accept tunnels from this balancer, or prefix, only (repeatable)", collect, [])
    .option("--second-chance", "pass packets without a connection here on to the other backends that balancers name; needs --source", false)
    .addOption(new Option("--gue-port <port>", "UDP port of gue").argParser(wholeNumber(1, 65535)).default(6080))
    .addOption(new Option("--xdp <mode>", "how to attach").choices(["auto", "native", "generic"]).default("auto"))
    .action(async (options: DecapVerbOptions) => {
      const { decapVerb } = await import("./decap.ts");
      end(await decapVerb(io, options));
    });
  const suites = "ring, packet, throughput, health, detection, schedule, slow_backend, churn, or all";
  command(program, "bench [suite]", `in a checkout: ${suites}`, { output: true })
    .option("--seconds <n>", "length of each run of throughput, slow_backend and churn", wholeNumber(1, 60), 3)
    .option("--rounds <n>", "interleaved rounds; medians are quoted", wholeNumber(1, 50), 3)
    .option("--only <pattern>", "contestants whose name matches")
    .option("--target <name=address>", "measure this host instead of raising labs (repeatable)", collect, [])
    .option("--file <directory>", "file results, table and chart there")
    .action(async (suite: string | undefined, options: BenchOptions) => {
      const { benchVerb } = await import("./bench.ts");
      end(await benchVerb(io, suite ?? "all", options));
    });
}
