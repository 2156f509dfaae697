/** `afs fetch`: asks the remote now, and shows what is new to git in the mount. */

import { Command } from "commander";
import {
  addJsonOption,
  addNameOption,
  type JsonOption,
  requiredSelector,
  type WhichOptions,
} from "./options.ts";
import { fieldLine, print, printJson } from "./output.ts";
import { Session } from "./session.ts";

export function fetchCommand(): Command {
  const command = new Command("fetch")
    .description("fetch new commits, branches and tags; HEAD and the work tree stay as they are")
    .argument("[dir]", "where it is mounted, or a directory inside");
  return addJsonOption(addNameOption(command)).action(fetch);
}

async function fetch(dir: string | undefined, options: WhichOptions & JsonOption): Promise<void> {
  const repo = requiredSelector(dir, options);
  const result = await new Session().askOrDo("fetch", { repo });
  if (options.json) return printJson(result);
  print(fieldLine({
    repo: result.repo,
    refs: result.refs,
    ahead: result.ahead,
    behind: result.behind,
    diverged: result.diverged,
    last_fetch: result.lastFetch,
  }));
}
