/** `afs remove-repo`: removes a repository and what only it used. */

import { Command } from "commander";
import {
  addJsonOption,
  addNameOption,
  type JsonOption,
  requiredSelector,
  type WhichOptions,
} from "./options.ts";
import { print, printJson, say } from "./output.ts";
import { Session } from "./session.ts";

export function removeRepoCommand(): Command {
  const command = new Command("remove-repo")
    .description(
      "unmount a repository and remove it; refuses while commits or changes may exist only here",
    )
    .argument("[dir]", "where it is mounted")
    .option("--force", "also when something is lost by it, or it is in use")
    .option("-n, --dry-run", "only say what would be removed and lost");
  return addJsonOption(addNameOption(command)).action(removeRepo);
}

async function removeRepo(
  dir: string | undefined,
  options: WhichOptions & JsonOption & { readonly force?: true; readonly dryRun?: true },
): Promise<void> {
  const result = await new Session().askOrDo("remove-repo", {
    repo: requiredSelector(dir, options),
    force: options.force === true,
    dryRun: options.dryRun === true,
  });
  if (options.json) return printJson(result);
  if (options.dryRun) {
    print(`Would remove ${result.repo}`);
    for (const what of result.onlyHere) print(`Would lose ${what}`);
  } else {
    for (const what of result.onlyHere) say(`lost ${what}`);
    say(`removed ${result.repo}`);
  }
}
