/**
 * Shows what came into a store to the users' git: tracking refs, tags, and where history ends.
 *
 * Invariant: it writes below refs/remotes/origin and refs/tags, and `shallow`: a branch, HEAD, the
 * index and the work tree of a user never change.
 *
 * Write order: lines that `shallow` must have for the new refs, refs, lines that it need not have
 * any more, our record of them. Every step may be repeated.
 */

import { messageOf } from "../failure.ts";
import { readTextIfExists, removeIfExists, writeFileAtomically } from "../git/files.ts";
import { isOid } from "../git/oid.ts";
import { planRefs, readRefs, type Refs } from "../git/refs.ts";
import { publishRefs, readTracking } from "../git/user_git_dir.ts";
import { editShallow, withoutParents } from "../git/user_shallow.ts";
import { byteStringOfText } from "../path.ts";
import type { Layout } from "./layout.ts";
import { userGitDirOf } from "./owner.ts";
import type { RepoRecord } from "./types.ts";

export interface News {
  /** Each user's tracking refs before the remote was asked, by repository id. */
  readonly before: ReadonlyMap<string, Refs>;
  /** The branch that the remote's HEAD names; null: leave refs/remotes/origin/HEAD alone. */
  readonly remoteHead: string | null;
  /** The store's branches and tags, when the caller has just read them. */
  readonly mirror?: Refs;
}

export interface Published {
  /** How many refs were changed, by repository id. */
  readonly changes: ReadonlyMap<string, number>;
  /** Repositories that were not given what came, by id, each with its cause. */
  readonly unpublished: ReadonlyMap<string, string>;
}

/** Each user's tracking refs by repository id; a directory that cannot be read is left out. */
export async function trackingOf(
  repos: readonly RepoRecord[],
  layout: Layout,
): Promise<Map<string, Refs>> {
  const found = new Map<string, Refs>();
  for (const repo of repos) {
    try {
      found.set(repo.id, await readTracking(userGitDirOf(repo, layout)));
    } catch {
      // It is the user's: publish says what is wrong with it.
    }
  }
  return found;
}

/** The branches and tags that a store has. Throws GitError. */
export async function mirrorOf(storeGitDir: string): Promise<Refs> {
  return await readRefs({ gitDir: storeGitDir }, ["refs/heads", "refs/tags"]);
}

/** What of a store's branches and tags a repository is shown. */
export function refsFor(
  { singleBranch, sourceRef }: Pick<RepoRecord, "singleBranch" | "sourceRef">,
  mirror: Refs,
): Refs {
  if (!singleBranch) return mirror;
  const own = byteStringOfText(sourceRef);
  return new Map([...mirror].filter(([name]) => name === own || name.startsWith("refs/tags/")));
}

/** To repositories of one store. One user's broken git directory keeps the others from nothing. */
export async function publish(
  repos: readonly RepoRecord[],
  layout: Layout,
  news: News,
): Promise<Published> {
  const changes = new Map<string, number>();
  const unpublished = new Map<string, string>();
  const [first] = repos;
  if (first === undefined) return { changes, unpublished };
  const mirror = news.mirror ?? await mirrorOf(layout.store(first.storeId).gitDir);
  for (const repo of repos) {
    try {
      changes.set(repo.id, await publishTo(repo, layout, { ...news, mirror }));
    } catch (error) {
      const what = "Cannot write refs into the git directory of";
      unpublished.set(repo.id, `${what} ${repo.name}: ${messageOf(error)}`);
    }
  }
  return { changes, unpublished };
}

async function publishTo(
  repo: RepoRecord,
  layout: Layout,
  { before: allBefore, remoteHead, mirror: all }: News & { readonly mirror: Refs },
): Promise<number> {
  const mirror = refsFor(repo, all);
  const dir = userGitDirOf(repo, layout);
  const { shallowPath } = layout.repo(repo.id);
  const ours = linesOf(await readTextIfExists(shallowPath));
  if (repo.depth !== null) await addShallow(repo, layout, ours);
  const before = allBefore.get(repo.id) ?? await readTracking(dir);
  const gone = repo.depth === null ? ours : [];
  if (gone.length === 0 && remoteHead === null && planRefs(mirror, before, before).length === 0) {
    return 0;
  }
  const changed = await publishRefs(dir, { mirror, before, remoteHead, shallowLines: gone });
  if (repo.depth === null) await removeIfExists(shallowPath);
  return changed;
}

/**
 * The store of a repository with a depth has ends of history that this user does not know of: those
 * of the other repositories there, which came later.
 */
async function addShallow(
  repo: RepoRecord,
  layout: Layout,
  ours: readonly string[],
): Promise<void> {
  const { gitDir } = layout.store(repo.storeId);
  const all = linesOf(await readTextIfExists(`${gitDir}/shallow`)).filter(isOid);
  const unknown = all.filter((line) => !ours.includes(line));
  if (unknown.length === 0) return;
  const dir = userGitDirOf(repo, layout);
  await editShallow(dir, { add: await withoutParents(dir, gitDir, unknown), remove: [] });
  const known = [...ours, ...unknown].map((line) => `${line}\n`).join("");
  await writeFileAtomically(layout.repo(repo.id).shallowPath, known, 0o600);
}

function linesOf(text: string | null): string[] {
  return (text ?? "").split("\n").filter((line) => line !== "");
}
