/** `afs unmount`: takes a mount away and keeps everything else. */

import { Command } from "commander";
import {
  addJsonOption,
  addNameOption,
  type JsonOption,
  requiredSelector,
  type WhichOptions,
} from "./options.ts";
import { printJson, say } from "./output.ts";
import { Session } from "./session.ts";

export function unmountCommand(): Command {
  const command = new Command("unmount")
    .description("unmount a repository; keeps everything")
    .argument("[dir]", "where it is mounted")
    .option("--force", "also when it is in use: who is inside gets errors from then on");
  return addJsonOption(addNameOption(command)).action(unmount);
}

async function unmount(
  dir: string | undefined,
  options: WhichOptions & JsonOption & { readonly force?: true },
): Promise<void> {
  const repo = requiredSelector(dir, options);
  const result = await new Session().askOrDo("unmount", { repo, lazy: options.force === true });
  if (options.json) printJson({ ...result, state: "unmounted" });
  else say(`unmounted ${result.mountPoint}`);
}
