/** `afs log-level`: how much the running daemon logs. */

import { Argument, Command } from "commander";
import { call, NoDaemon } from "../control/client.ts";
import { LOG_LEVELS, type LogLevel } from "../log.ts";
import { layoutOf } from "../repo/layout.ts";
import { noDaemon } from "./going_on.ts";
import { stateRoot } from "./host_paths.ts";
import { addJsonOption, type JsonOption } from "./options.ts";
import { print, printJson } from "./output.ts";

export function logLevelCommand(): Command {
  const command = new Command("log-level")
    .description("print what the daemon logs, or set it until the daemon ends")
    .addArgument(new Argument("[level]", "this and all that is worse").choices(LOG_LEVELS));
  return addJsonOption(command).action(setLogLevel);
}

async function setLogLevel(wanted: LogLevel | undefined, { json }: JsonOption): Promise<void> {
  const { socketPath } = layoutOf(stateRoot());
  try {
    const { level } = await call(socketPath, "log-level", { level: wanted ?? null });
    if (json) printJson({ level });
    else print(level);
  } catch (error) {
    throw error instanceof NoDaemon ? noDaemon("tell or set the log level") : error;
  }
}
