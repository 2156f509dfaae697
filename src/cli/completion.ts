/** `afs completion` and `afs man`: what is made of the definitions of all verbs. */

import { Argument, Command } from "commander";
import { completionScript, type Shell, SHELLS } from "./completion_scripts.ts";
import { definitionOf } from "./definitions.ts";
import { manualPage } from "./manual_page.ts";
import { print } from "./output.ts";
import { AFS_VERSION } from "./version.ts";

export function completionCommand(): Command {
  return new Command("completion")
    .description("print what a shell completes afs with: source <(afs completion bash)")
    .addArgument(new Argument("<shell>", "which shell").choices(SHELLS))
    .action((shell: Shell, _options: unknown, command: Command) => {
      print(completionScript(shell, definitionOf(programOf(command))).trimEnd());
    });
}

export function manCommand(): Command {
  return new Command("man")
    .description("print the manual page: afs man | man -l -")
    .action((_options: unknown, command: Command) => {
      print(manualPage(definitionOf(programOf(command)), AFS_VERSION).trimEnd());
    });
}

function programOf(command: Command): Command {
  return command.parent ?? command;
}
