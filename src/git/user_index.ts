/**
 * The user's index under git's own lock (lockfile.h), for a change that goes with one of HEAD.
 *
 * Until it holds the new index, `index.lock` holds one line, a nonce, by which what was left by a
 * daemon that was killed is known from a lock of somebody's git.
 *
 * Everything runs as the owner.
 */

import { Failure } from "../failure.ts";
import { byteString } from "../path.ts";
import type { Oid } from "./oid.ts";
import { GitError, gitText, runGit } from "./process.ts";
import { probeOptions, type UserGitDir } from "./user_git_dir.ts";
import { runShell } from "./user_shell.ts";

/**
 * What `git switch` refuses in the middle of (wt-status.c, wt_status_get_state), what goes another
 * way there, and a lock that HEAD may not be moved under.
 */
const BUSY = [
  "MERGE_HEAD",
  "CHERRY_PICK_HEAD",
  "REVERT_HEAD",
  "BISECT_LOG",
  "rebase-merge",
  "rebase-apply",
  "sequencer",
  "info/sparse-checkout",
  "HEAD.lock",
];

const LOCK_INDEX = `
cd "$GIT_DIR" || exit 1
nonce=$1
shift
for name; do
  if [ -e "$name" ]; then printf %s "$name"; exit 4; fi
done
umask 022
set -C
printf '%s\\n' "$nonce" 2>/dev/null > index.lock || exit 3
set +C
[ -f index ] && cat index
`;

const UNLOCK_INDEX = `
cd "$GIT_DIR" || exit 1
IFS= read -r line < index.lock 2>/dev/null
if [ "$line" = "$1" ]; then rm -f index.lock; fi
`;

/** Into the lock, with its time. */
const WRITE_INDEX = `
cd "$GIT_DIR" || exit 1
cat > index.lock && TZ=UTC0 touch -t "$1" index.lock
`;

/** With what a switch takes away of earlier merges (branch.c, remove_branch_state). */
const INSTALL_INDEX = `
cd "$GIT_DIR" && mv -f index.lock index || exit 1
rm -f MERGE_RR MERGE_MSG MERGE_MODE AUTO_MERGE SQUASH_MSG
`;

export type LockedIndex =
  | { readonly kind: "locked"; readonly bytes: Uint8Array<ArrayBuffer> }
  /** Something else is going on, in words that end "Cannot switch here: ". */
  | { readonly kind: "busy"; readonly reason: string };

/** Takes the lock and reads the index. Throws Failure. */
export async function lockIndex(dir: UserGitDir, nonce: string): Promise<LockedIndex> {
  const { code, stdout } = await runShell(dir, LOCK_INDEX, { args: [nonce, ...BUSY] });
  if (code === 0) return { kind: "locked", bytes: stdout };
  if (code === 3) return { kind: "busy", reason: "index.lock is held" };
  const found = byteString(stdout);
  // Git would write the index before it finds that HEAD cannot be moved.
  if (code === 4 && found === "HEAD.lock") {
    throw new Failure(
      "busy",
      `Cannot switch: ${dir.gitDir}/HEAD.lock exists; remove it if no git is at work`,
    );
  }
  if (code === 4) return { kind: "busy", reason: `${found} exists` };
  await unlockIndex(dir, nonce);
  throw new Failure("failed", "Cannot switch: the index cannot be read");
}

/** Lets go of the lock, if it is the one of `nonce`. */
export async function unlockIndex(dir: UserGitDir, nonce: string): Promise<void> {
  await runShell(dir, UNLOCK_INDEX, { args: [nonce] });
}

/** Writes what is to become the index into the lock, which is held. Throws Failure. */
export async function writeLockedIndex(
  dir: UserGitDir,
  bytes: Uint8Array,
  timeSeconds: number,
): Promise<void> {
  const args = [touchTime(timeSeconds)];
  const { code } = await runShell(dir, WRITE_INDEX, { args, input: bytes });
  if (code !== 0) throw new Failure("failed", "Cannot switch: the index cannot be written");
}

/** The index as it is; null: there is none. */
export async function readIndex(dir: UserGitDir): Promise<Uint8Array<ArrayBuffer> | null> {
  const { code, stdout } = await runShell(dir, 'exec cat "$GIT_DIR/index"');
  return code === 0 ? stdout : null;
}

/** Makes the lock the index. Throws Failure. */
export async function installIndex(dir: UserGitDir): Promise<void> {
  const { code } = await runShell(dir, INSTALL_INDEX);
  if (code !== 0) throw new Failure("failed", "Cannot switch: the index cannot be replaced");
}

/** `touch -t` of POSIX: CCYYMMDDhhmm.ss. */
function touchTime(seconds: number): string {
  const digits = new Date(seconds * 1000).toISOString().replaceAll(/[-T:]/g, "");
  return `${digits.slice(0, 12)}.${digits.slice(12, 14)}`;
}

export interface HeadMove {
  /** Full ref; null: detached. */
  readonly ref: string | null;
  readonly commitOid: Oid;
  /** Of the reflog. */
  readonly message: string;
  /** `Name <address> seconds zone`; null: whom git takes. */
  readonly committer: string | null;
  /** The branch is to be made, following this one (`origin/topic`); null: it exists. */
  readonly follows: string | null;
}

/** Throws GitError. Safe to repeat. */
export async function moveHead(dir: UserGitDir, move: HeadMove): Promise<void> {
  const { ref, commitOid, message } = move;
  const run = { ...probeOptions(dir), env: committerEnvironment(move.committer) };
  if (ref === null) {
    await runGit(["update-ref", "--no-deref", "-m", message, "HEAD", commitOid], run);
    return;
  }
  if (move.follows !== null) await makeBranch(dir, ref, move.follows, commitOid);
  await runGit(["symbolic-ref", "-m", message, "HEAD", ref], run);
}

/** As `git switch` does for a branch that only a remote has. */
async function makeBranch(
  dir: UserGitDir,
  ref: string,
  follows: string,
  commitOid: Oid,
): Promise<void> {
  const run = probeOptions(dir);
  const name = ref.replace(/^refs\/heads\//, "");
  try {
    await runGit(["branch", "--track", "--", name, follows], run);
  } catch (error) {
    if (!(error instanceof GitError)) throw error;
    // It was made before a crash.
    const made = await gitText(["for-each-ref", "--format=%(objectname)", ref], run);
    if (made !== commitOid) throw error;
  }
}

function committerEnvironment(committer: string | null): Record<string, string> {
  const [, name, email] = /^([^<\n]*) <([^<>\n]*)> \d+ [-+]\d{4}$/.exec(committer ?? "") ?? [];
  if (name === undefined || email === undefined) return {};
  return { GIT_COMMITTER_NAME: name, GIT_COMMITTER_EMAIL: email };
}
