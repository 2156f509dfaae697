/** What the removal of a repository would lose, as its user is told. */

import { Failure, messageOf } from "../failure.ts";
import type { Layout } from "../repo/layout.ts";
import { stagedIn, whatExistsOnlyHere } from "../repo/remove.ts";
import type { RepoRecord } from "../repo/types.ts";
import { changesOf } from "./overlay_changes.ts";

/** One phrase for each kind. Not knowing is a reason to refuse (Failure), unless forced. */
export async function lossesOf(
  record: RepoRecord,
  layout: Layout,
  force: boolean,
): Promise<string[]> {
  try {
    const commits = await whatExistsOnlyHere(record, layout);
    const staged = await stagedIn(record, layout);
    const { created, modified, deleted } = await changesOf(record, layout);
    const changes = created + modified + deleted;
    return [
      ...commits.map(({ where, count }) => `${plural(count, "commit")} on ${where}`),
      ...(staged === 0 ? [] : [plural(staged, "staged file")]),
      ...(changes === 0
        ? []
        : [`${plural(changes, "change")} in the work tree that HEAD does not have`]),
    ];
  } catch (error) {
    if (force) return ["what its git directory and overlay hold, which cannot be read"];
    throw new Failure(
      "failed",
      `Cannot remove ${record.name}: its git directory or overlay cannot be read (${
        messageOf(error)
      }), so it may hold work that is nowhere else; add --force to remove it all the same`,
      { cause: error },
    );
  }
}

export function wouldLose(repo: string, losses: readonly string[]): Failure {
  return new Failure(
    "failed",
    `Cannot remove ${repo}: ${losses.join(", ")} would be lost, and may be nowhere else; push or ` +
      "copy what is to be kept, or add --force",
  );
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
