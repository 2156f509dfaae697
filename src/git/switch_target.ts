/**
 * What `git switch` would take a name for (builtin/checkout.c, parse_branchname_arg): a branch, or a
 * branch that one remote has and that is made then; and, where `git switch` wants --detach, anything
 * that names a commit.
 */

import { isOid, type Oid } from "./oid.ts";
import { GitError, gitText } from "./process.ts";
import { probeOptions, type UserGitDir } from "./user_git_dir.ts";

export interface CommitTree {
  readonly commitOid: Oid;
  readonly treeOid: Oid;
}

export interface SwitchTarget extends CommitTree {
  /** As the reflog names it. */
  readonly name: string;
  /** Full ref; null: HEAD is detached then. */
  readonly ref: string | null;
  /** The remote's branch that it is made from (`origin/topic`); null: it exists. */
  readonly follows: string | null;
}

export interface SwitchHead extends CommitTree {
  readonly ref: string | null;
}

export type Resolved =
  | { readonly kind: "resolved"; readonly head: SwitchHead; readonly target: SwitchTarget }
  /** Git has to say. */
  | { readonly kind: "unclear"; readonly reason: string };

/** Nothing that git would take for an option, or that no name has. */
const REVISION = /^(?!-)[\x21-\x7e]+$/;
/** Nothing that for-each-ref would take for a pattern, or rev-parse for a way from a name. */
const PLAIN_NAME = /^[^?*[\\^:~]+$/;
const REF_FORMAT = "--format=%(refname)%09%(objectname)%09%(worktreepath)";

/** Runs as the owner. Throws GitError. */
export async function resolveTarget(dir: UserGitDir, name: string): Promise<Resolved> {
  const run = probeOptions(dir);
  if (!REVISION.test(name)) return unclear("the name is not plain");
  const isPlain = PLAIN_NAME.test(name);
  const patterns = isPlain ? [`refs/heads/${name}`, `refs/remotes/*/${name}`] : [];
  const [headRef, refs, plain] = await Promise.all([
    orNull(gitText(["symbolic-ref", "--quiet", "HEAD"], run)),
    patterns.length === 0 ? "" : gitText(["for-each-ref", REF_FORMAT, ...patterns], run),
    // What is mostly asked for, at once with the rest.
    isPlain ? orNull(treesOf(dir, ["HEAD", `refs/heads/${name}`])) : null,
  ]);
  const found = refs.split("\n").filter((line) => line !== "").map((line) => line.split("\t"));
  const branch = found.find(([ref]) => ref === `refs/heads/${name}`);
  if (branch !== undefined && headRef === branch[0]) return unclear("HEAD is there");
  if (branch !== undefined && branch[2] !== "") return unclear("it is checked out elsewhere");
  // As `refs/heads/*` a pattern also names what is below.
  const remotes = found.filter(([ref]) =>
    new RegExp("^refs/remotes/[^/]+/").test(ref ?? "") &&
    ref?.replace(/^refs\/remotes\/[^/]+\//, "") === name
  );
  let target: Omit<SwitchTarget, "treeOid">;
  if (branch !== undefined) {
    target = { name, ref: branch[0] as string, commitOid: branch[1] as Oid, follows: null };
  } else {
    const revision = `${name}^{commit}`;
    const args = ["rev-parse", "--quiet", "--verify", "--end-of-options", revision];
    const commit = await orNull(gitText(args, run));
    if (commit !== null && isOid(commit)) {
      target = { name, ref: null, commitOid: commit, follows: null };
    } else if (remotes.length === 1) {
      const [[remote, oid]] = remotes as [[string, string]];
      const follows = remote.replace(/^refs\/remotes\//, "");
      target = { name, ref: `refs/heads/${name}`, commitOid: oid as Oid, follows };
    } else return unclear("it is no branch and no commit");
  }
  // Somebody may have moved the branch between the two answers.
  const isKnown = branch !== undefined && plain?.[1]?.commitOid === target.commitOid;
  const [head, to] = isKnown ? plain : await treesOf(dir, ["HEAD", target.commitOid]);
  if (head === undefined || to === undefined) {
    return unclear(head?.commitOid === target.commitOid ? "HEAD is there" : "it is not here");
  }
  return {
    kind: "resolved",
    head: { ...head, ref: headRef },
    target: { ...target, treeOid: to.treeOid },
  };
}

/** Of two commits; fewer when they are one. */
async function treesOf(dir: UserGitDir, revisions: readonly string[]): Promise<CommitTree[]> {
  const args = ["rev-list", "--no-walk=unsorted", "--no-commit-header", "--format=%H %T"];
  const text = await gitText([...args, ...revisions, "--"], probeOptions(dir));
  return text.split("\n").map((line) => {
    const [commitOid, treeOid] = line.split(" ");
    return { commitOid: commitOid as Oid, treeOid: treeOid as Oid };
  }).filter(({ commitOid, treeOid }) => isOid(commitOid) && isOid(treeOid));
}

function unclear(reason: string): Resolved {
  return { kind: "unclear", reason };
}

/** Null when git says that there is none. */
async function orNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof GitError) return null;
    throw error;
  }
}
