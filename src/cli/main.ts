/**
 * The command line. Every command throws what went wrong; here it becomes one line on standard
 * error and an exit code from the table in src/failure.ts.
 */

import { Command, CommanderError } from "commander";
import { EXIT_CODES, Failure, messageOf } from "../failure.ts";
import { programName } from "../sys/mod.ts";
import { addRepoCommand } from "./add_repo.ts";
import { completionCommand, manCommand } from "./completion.ts";
import { daemonCommand } from "./daemon.ts";
import { demoCommand } from "./demo.ts";
import { eventsCommand } from "./events.ts";
import { fetchCommand } from "./fetch.ts";
import { AFTER_HELP } from "./help_text.ts";
import { listReposCommand } from "./list_repos.ts";
import { logLevelCommand } from "./log_level.ts";
import { logsCommand } from "./logs.ts";
import { mountCommand } from "./mount.ts";
import { isMountHelper, mountHelper } from "./mount_helper.ts";
import { print, say } from "./output.ts";
import { prepareCommand } from "./prepare.ts";
import { remountCommand } from "./remount.ts";
import { removeRepoCommand } from "./remove_repo.ts";
import { Interrupted } from "./session.ts";
import { setRefreshCommand } from "./set_refresh.ts";
import { shutdownCommand } from "./shutdown.ts";
import { statusCommand } from "./status.ts";
import { switchCommand } from "./switch.ts";
import { unmountCommand } from "./unmount.ts";
import { versionText } from "./version.ts";

/** The whole program. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    if (isMountHelper(programName())) return await mountHelper(args);
    const program = makeProgram();
    if (args.length === 0) {
      // As git does: help is what was asked for, but nothing was done.
      program.outputHelp();
      return EXIT_CODES.failed;
    }
    if (args.length === 1 && (args[0] === "--version" || args[0] === "-V")) {
      print(await versionText());
      return 0;
    }
    await program.parseAsync(helpOfUnknown(program, args) ?? [...args], { from: "user" });
    return 0;
  } catch (error) {
    return report(error);
  }
}

/** `help NAME` of no command: the name alone, which commander refuses in words; `help help`: help. */
function helpOfUnknown(program: Command, [help, name]: readonly string[]): string[] | null {
  if (help !== "help" || name === undefined) return null;
  return program.commands.some((command) => command.name() === name) ? null : [name];
}

/** Prints what went wrong; its exit code. */
export function report(error: unknown): number {
  if (error instanceof CommanderError) {
    // Commander has printed: help and version are no failures.
    return error.exitCode === 0 ? 0 : EXIT_CODES.usage;
  }
  if (error instanceof Interrupted) {
    say(messageOf(error.cause ?? error));
    return error.exitCode;
  }
  say(messageOf(error).replaceAll(/\s*\n\s*/g, " "));
  return error instanceof Failure ? EXIT_CODES[error.kind] : EXIT_CODES.failed;
}

export function makeProgram(): Command {
  const program = new Command("afs")
    .description("Mounts Git repositories and fetches file contents when they are needed.")
    .usage("<command> [options]")
    .option("-V, --version", "print the versions of afs, git, Deno, FUSE and the kernel")
    .addHelpText("after", AFTER_HELP)
    .showSuggestionAfterError();
  const commands = [
    mountCommand(),
    unmountCommand(),
    remountCommand(),
    addRepoCommand(),
    prepareCommand(),
    removeRepoCommand(),
    listReposCommand(),
    statusCommand(),
    switchCommand(),
    fetchCommand(),
    setRefreshCommand(),
    daemonCommand(),
    shutdownCommand(),
    eventsCommand(),
    logsCommand(),
    logLevelCommand(),
    demoCommand(),
    completionCommand(),
    manCommand(),
  ];
  for (const command of commands) program.addCommand(command);
  for (const command of [program, ...commands]) {
    command.exitOverride().configureOutput({
      outputError: (text, write) =>
        // Its guess at what was meant is a line of its own.
        write(text.replace(/^error: /, "afs: ").replace("\n(", " (")),
    });
  }
  return program;
}
