/**
 * The user's `shallow` file: the commits whose parents their git does not look for. It is theirs,
 * so it is changed line by line, under git's own lock (shallow.c), with the owner's rights.
 */

import { isOid, type Oid } from "./oid.ts";
import { GitError, gitText, runGit } from "./process.ts";
import { probeOptions, type UserGitDir } from "./user_git_dir.ts";
import { runShell } from "./user_shell.ts";

export interface ShallowEdit {
  readonly add: readonly string[];
  readonly remove: readonly string[];
}

/**
 * Standard input: `+line` and `-line`. 3: the lock is held. A file without lines goes. In a shell,
 * since it must run as the owner.
 */
const EDIT_SHALLOW = `
cd "$GIT_DIR" || exit 1
edits="$(cat)"
has() { case "
$edits
" in
  *"
$1
"*) ;;
  *) return 1 ;;
esac; }
set -C
: 2>/dev/null > shallow.lock || exit 3
set +C
{
  if [ -f shallow ]; then
    while IFS= read -r line; do
      has "-$line" || has "+$line" || printf '%s\\n' "$line"
    done < shallow
  fi
  printf '%s\\n' "$edits" | sed -n 's/^+//p'
} > shallow.lock
if [ -s shallow.lock ]; then mv -f shallow.lock shallow; else rm -f shallow shallow.lock; fi
`;

const LOCK_TRIES = 20;
const LOCK_WAIT_MS = 100;

/** Safe to repeat. Runs as the owner. Throws GitError when git holds the lock for long. */
export async function editShallow(dir: UserGitDir, { add, remove }: ShallowEdit): Promise<void> {
  const edits = [...add.map((line) => `+${line}`), ...remove.map((line) => `-${line}`)];
  if (edits.length === 0) return;
  for (let attempt = 1;; attempt++) {
    const input = new TextEncoder().encode(edits.join("\n"));
    const { code } = await runShell(dir, EDIT_SHALLOW, { input });
    if (code === 0) return;
    if (code !== 3 || attempt === LOCK_TRIES) {
      throw new GitError("shallow", code, "fatal: the user's shallow file could not be written");
    }
    await new Promise((resolve) => setTimeout(resolve, LOCK_WAIT_MS));
  }
}

/**
 * Those of some commits of the store that have a parent which the user does not have: without a
 * line in `shallow` their git would ask the remote for it, and with one for another commit it
 * would not show what is here. Runs as the owner. Throws GitError for a commit that the store
 * does not have.
 */
export async function withoutParents(
  dir: UserGitDir,
  storeGitDir: string,
  commits: readonly Oid[],
): Promise<Oid[]> {
  const found: Oid[] = [];
  for (const commit of commits) {
    // As it was written: `shallow` hides parents from every other command.
    const text = await gitText(["cat-file", "commit", commit], {
      gitDir: storeGitDir,
      probe: true,
    });
    if (!await hasAll(dir, parentsOf(text))) found.push(commit);
  }
  return found;
}

function parentsOf(commit: string): Oid[] {
  const [head = ""] = commit.split("\n\n", 1);
  const parents = head.split("\n").filter((line) => line.startsWith("parent "));
  return parents.map((line) => line.slice("parent ".length)).filter(isOid);
}

async function hasAll(dir: UserGitDir, oids: readonly Oid[]): Promise<boolean> {
  try {
    for (const oid of oids) await runGit(["cat-file", "-e", oid], probeOptions(dir));
    return true;
  } catch (error) {
    if (error instanceof GitError) return false;
    throw error;
  }
}
