/** `afs daemon`: the daemon itself, in the foreground. */

import { Command, Option } from "commander";
import { EXIT_CODES, Failure, messageOf } from "../failure.ts";
import { logger, setupLog } from "../log.ts";
import { layoutOf } from "../repo/layout.ts";
import { isWritable } from "../sys/mod.ts";
import { absoluteRoot } from "./add_repo.ts";
import { stateRoot } from "./host_paths.ts";
import { portNumber, wholeNumber } from "./options.ts";
import { AFS_VERSION } from "./version.ts";

const DEFAULT_CONCURRENCY = 4;
const MAX_CONCURRENCY = 64;

interface DaemonOptions {
  readonly root?: string;
  readonly hydrationConcurrency: number;
  readonly metricsPort?: number;
  readonly background?: true;
}

export function daemonCommand(): Command {
  return new Command("daemon")
    .description("run the daemon in the foreground, with its log on standard error")
    .option("--root <dir>", "where add-repo mounts unless told; an absolute path")
    .option(
      "--hydration-concurrency <n>",
      "fetches of file contents at the same time, per remote",
      wholeNumber(1),
      DEFAULT_CONCURRENCY,
    )
    .option(
      "--metrics-port <port>",
      "serve /metrics, /healthz and /readyz on this port of 127.0.0.1 and ::1 too",
      portNumber,
    )
    .addOption(new Option("--background", "standard error is the log file").hideHelp())
    .action(daemon);
}

async function daemon(options: DaemonOptions): Promise<void> {
  const { hydrationConcurrency } = options;
  if (hydrationConcurrency > MAX_CONCURRENCY) {
    throw new Failure(
      "usage",
      `Cannot use --hydration-concurrency ${hydrationConcurrency}: ${MAX_CONCURRENCY} is the most`,
    );
  }
  const background = options.background === true;
  try {
    // Loaded only here: the other verbs start faster without it.
    const { runDaemon } = await import("../daemon/main.ts");
    await runDaemon({
      layout: layoutOf(stateRoot()),
      mountRoot: options.root === undefined ? null : checkedRoot(options.root),
      hydrationConcurrency,
      metricsPort: options.metricsPort ?? null,
      background,
      version: AFS_VERSION,
    });
  } catch (error) {
    if (!background) throw error;
    // Standard error is the log, where every line is JSON: `report` would add a plain one.
    logFailure(error);
    Deno.exit(error instanceof Failure ? EXIT_CODES[error.kind] : EXIT_CODES.failed);
  }
}

/** The last line of the log: whoever started the daemon shows it. */
function logFailure(error: unknown): void {
  setupLog();
  const kind = error instanceof Failure ? error.kind : "fatal";
  logger("daemon").error("Could not start", { error: messageOf(error), kind });
}

/** A mount root that exists must be a directory one may write; one that does not is made later. */
function checkedRoot(path: string): string {
  const root = absoluteRoot(path);
  const fail = (what: string) =>
    new Failure("usage", `Cannot use the mount root ${root}: ${what}; choose another`);
  let info: Deno.FileInfo;
  try {
    info = Deno.statSync(root);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return root;
    throw fail(messageOf(error));
  }
  if (!info.isDirectory) throw fail("it is not a directory");
  if (!isWritable(root)) throw fail("you may not write there");
  return root;
}
