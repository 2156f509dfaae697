/** `afs list-repos`: what is registered. */

import { Command } from "commander";
import { addJsonOption, type JsonOption } from "./options.ts";
import { print, printJson, summaryLine } from "./output.ts";
import { Session } from "./session.ts";

export function listReposCommand(): Command {
  const command = new Command("list-repos").description("list the registered repositories");
  return addJsonOption(command).action(listRepos);
}

async function listRepos({ json }: JsonOption): Promise<void> {
  const result = await new Session().askOrDo("list-repos", {});
  if (json) return printJson(result);
  for (const summary of result.repos) print(summaryLine(summary));
}
