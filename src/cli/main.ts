/**
 * The command line. Every command throws what went wrong; here it becomes one line on standard
 * error and an exit code from the table in src/failure.ts.
 */

import { Command, CommanderError } from "commander";
import { EXIT_CODES, Failure, messageOf } from "../failure.ts";
import { programName } from "../sys/mod.ts";
import { addRepoCommand } from "./add_repo.ts";
import { daemonCommand } from "./daemon.ts";
import { demoCommand } from "./demo.ts";
import { fetchCommand } from "./fetch.ts";
import { listReposCommand } from "./list_repos.ts";
import { mountCommand } from "./mount.ts";
import { isMountHelper, mountHelper } from "./mount_helper.ts";
import { print, say } from "./output.ts";
import { prepareCommand } from "./prepare.ts";
import { remountCommand } from "./remount.ts";
import { removeRepoCommand } from "./remove_repo.ts";
import { Interrupted } from "./session.ts";
import { setRefreshCommand } from "./set_refresh.ts";
import { statusCommand } from "./status.ts";
import { switchCommand } from "./switch.ts";
import { unmountCommand } from "./unmount.ts";
import { versionText } from "./version.ts";

const AFTER_HELP = `
Exit codes:
  0    done
  ${EXIT_CODES.failed}    failed
  ${EXIT_CODES.authentication}    the remote needs a login, or refused the one given
  ${EXIT_CODES.network}    the remote cannot be reached
  ${EXIT_CODES["not-mounted"]}    not mounted
  ${EXIT_CODES.busy}    busy: in use, or taken by something else
  ${EXIT_CODES.fatal}  fatal: this machine or this user cannot do it
  ${EXIT_CODES.usage}  wrong usage
  130  interrupted

Environment:
  ARTIFACT_FS_ROOT  state root: registry, stores, socket, log
                    (default: /var/lib/artifact-fs, or below XDG_DATA_HOME)
`;

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
    demoCommand(),
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
