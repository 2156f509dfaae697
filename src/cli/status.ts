/** `afs status`: one line a repository. */

import { Command } from "commander";
import {
  addJsonOption,
  addNameOption,
  type JsonOption,
  selectorFrom,
  type WhichOptions,
} from "./options.ts";
import { print, printJson, statusLine } from "./output.ts";
import { Session } from "./session.ts";

export function statusCommand(): Command {
  const command = new Command("status")
    .description("print the state of all repositories, or of one")
    .argument("[dir]", "where it is mounted, or a directory inside");
  return addJsonOption(addNameOption(command)).action(status);
}

async function status(
  dir: string | undefined,
  options: WhichOptions & JsonOption,
): Promise<void> {
  const result = await new Session().askOrDo("status", { repo: selectorFrom(dir, options) });
  if (options.json) return printJson(result);
  for (const repo of result.repos) print(statusLine(repo));
}
