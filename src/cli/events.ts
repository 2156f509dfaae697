/** `afs events`: what happens, one line each, until Ctrl-C. */

import { Command } from "commander";
import { API_VERSION } from "../control/api.ts";
import { call, NoDaemon } from "../control/client.ts";
import type { EventLine } from "../control/events.ts";
import { layoutOf } from "../repo/layout.ts";
import { endWhenAsked, noDaemon, printOn } from "./going_on.ts";
import { stateRoot } from "./host_paths.ts";
import { type JsonOption, type WhichOptions } from "./options.ts";
import { fieldLine, say } from "./output.ts";

export function eventsCommand(): Command {
  return new Command("events")
    .description("print what happens, one line each, as it happens; until Ctrl-C")
    .option("--name <repo>", "only what is about the repository of this name")
    .option("--json", "print a line of JSON each")
    .action(events);
}

async function events({ name, json }: WhichOptions & JsonOption): Promise<void> {
  endWhenAsked();
  const { socketPath } = layoutOf(stateRoot());
  try {
    await call(socketPath, "events", { name: name ?? null }, {
      onProgress: () => say("listening"),
      onEvent: (event) => printOn(json ? jsonOf(event) : lineOf(event)),
    });
  } catch (error) {
    throw error instanceof NoDaemon ? noDaemon("listen to events") : error;
  }
}

function jsonOf({ time, event, repo, fields }: EventLine): string {
  return JSON.stringify({ version: API_VERSION, time, event, repo, fields });
}

function lineOf({ time, event, repo, fields }: EventLine): string {
  const named = Object.entries(fields).map(([key, value]) => [
    key.replaceAll(/[A-Z]/g, (capital) => `_${capital.toLowerCase()}`),
    value ?? "none",
  ]);
  return fieldLine({ time, event, repo: repo ?? "none", ...Object.fromEntries(named) });
}
