/** `afs remount`: mounts a registered repository (again). */

import { Command } from "commander";
import { checkMountRights } from "../daemon/preflight.ts";
import {
  addJsonOption,
  addNameOption,
  type JsonOption,
  requiredSelector,
  type WhichOptions,
} from "./options.ts";
import { printJson, say } from "./output.ts";
import { Session } from "./session.ts";

export function remountCommand(): Command {
  const command = new Command("remount")
    .description("mount a registered repository again; starts a daemon if none runs")
    .argument("[dir]", "where it is mounted");
  return addJsonOption(addNameOption(command)).action(remount);
}

async function remount(
  dir: string | undefined,
  options: WhichOptions & JsonOption,
): Promise<void> {
  const repo = requiredSelector(dir, options);
  checkMountRights();
  const result = await new Session().ask("remount", { repo });
  if (options.json) printJson({ ...result, state: "mounted" });
  else say(`mounted ${result.mountPoint}`);
}
