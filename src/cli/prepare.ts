/** `afs prepare`: waits for what `add-repo --async` has asked for, and tries again what has failed. */

import { Command } from "commander";
import {
  addJsonOption,
  addNameOption,
  type JsonOption,
  requiredSelector,
  type WhichOptions,
} from "./options.ts";
import { printMount } from "./mount.ts";
import { Session } from "./session.ts";

export function prepareCommand(): Command {
  const command = new Command("prepare")
    .description(
      "wait until what `add-repo --async` has asked for is here; try again if it has failed",
    )
    .argument("[dir]", "where it is mounted, or a directory inside");
  return addJsonOption(addNameOption(command)).action(prepare);
}

async function prepare(
  dir: string | undefined,
  options: WhichOptions & JsonOption,
): Promise<void> {
  const repo = requiredSelector(dir, options);
  printMount(await new Session().askOrDo("prepare", { repo }), options);
}
