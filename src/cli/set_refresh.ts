/** `afs set-refresh`: how often the daemon asks the remote for new refs. */

import { Command } from "commander";
import {
  addJsonOption,
  addNameOption,
  type Interval,
  interval,
  type JsonOption,
  requiredSelector,
  type WhichOptions,
} from "./options.ts";
import { printJson, say } from "./output.ts";
import { Session } from "./session.ts";

interface SetRefreshOptions extends WhichOptions, JsonOption {
  readonly interval: Interval;
}

export function setRefreshCommand(): Command {
  const command = new Command("set-refresh")
    .description("set how often the remote is asked for new refs while the repository is mounted")
    .argument("[dir]", "where it is mounted")
    .requiredOption("--interval <interval>", "30s, 5m, 1h, ... up to 168h, or never", interval);
  return addJsonOption(addNameOption(command)).action(setRefresh);
}

async function setRefresh(dir: string | undefined, options: SetRefreshOptions): Promise<void> {
  const repo = requiredSelector(dir, options);
  const result = await new Session().askOrDo("set-refresh", { repo, ...options.interval });
  if (options.json) return printJson(result);
  const { repo: name, remoteRefresh: often } = result;
  say(`the remote of ${name} is ${often === "never" ? "never asked" : `asked every ${often}`}`);
}
