/**
 * `afs status`: one line a repository. `--watch` looks again and again: on a terminal the lines are
 * drawn anew when one has changed, elsewhere each line that has changed is printed.
 */

import { Command } from "commander";
import { systemClock } from "../clock.ts";
import type { Result, Selector } from "../control/api.ts";
import { API_VERSION } from "../control/api.ts";
import { call, NoDaemon } from "../control/client.ts";
import { Failure } from "../failure.ts";
import { endWhenAsked, noDaemon, printOn } from "./going_on.ts";
import {
  addJsonOption,
  addNameOption,
  type JsonOption,
  selectorFrom,
  type WhichOptions,
} from "./options.ts";
import { fieldLine, isScreen, print, printJson, redraw, statusLine } from "./output.ts";
import { Session } from "./session.ts";

/** Between an answer and the next question. */
const WATCH_MS = 1_000;

export function statusCommand(): Command {
  const command = new Command("status")
    .description("print the state of all repositories, or of one")
    .argument("[dir]", "where it is mounted, or a directory inside")
    .option("-w, --watch", "go on with what changes, until Ctrl-C or the daemon's end");
  return addJsonOption(addNameOption(command)).action(status);
}

async function status(
  dir: string | undefined,
  options: WhichOptions & JsonOption & { readonly watch?: true },
): Promise<void> {
  const repo = selectorFrom(dir, options);
  if (options.watch) return await watch(repo, options);
  const result = await new Session().askOrDo("status", { repo });
  if (options.json) return printJson(result);
  for (const repo of result.repos) print(statusLine(repo));
}

async function watch(repo: Selector | null, { json }: JsonOption): Promise<never> {
  endWhenAsked();
  const { socketPath } = new Session().layout;
  const show = json ? showJson() : isScreen() ? showScreen() : showLines();
  for (let isFirst = true;; isFirst = false) {
    try {
      show(await call(socketPath, "status", { repo }));
    } catch (error) {
      if (!(error instanceof NoDaemon)) throw error;
      throw isFirst
        ? noDaemon("watch")
        : new Failure("failed", "Cannot go on: the daemon has ended");
    }
    await systemClock.sleep(WATCH_MS);
  }
}

type Show = (result: Result<"status">) => void;

/** All of it when something has changed. */
function showJson(): Show {
  let last = "";
  return (result) => {
    const text = JSON.stringify({ version: API_VERSION, ...result });
    if (text !== last) printOn(text);
    last = text;
  };
}

function showScreen(): Show {
  let last = "";
  return ({ repos }) => {
    const text = repos.length === 0 ? "no repository" : repos.map(statusLine).join("\n");
    if (text !== last && !redraw(text)) Deno.exit(0);
    last = text;
  };
}

/** The lines that have changed; one more for a repository that is gone. */
function showLines(): Show {
  let last = new Map<string, string>();
  return ({ repos }) => {
    const now = new Map(repos.map((status) => [status.repo, statusLine(status)]));
    for (const [repo, line] of now) if (last.get(repo) !== line) printOn(line);
    for (const repo of last.keys()) {
      if (!now.has(repo)) printOn(fieldLine({ repo, state: "removed" }));
    }
    last = now;
  };
}
