/**
 * What git-lfs needs in a checkout directory (checkout.ts) to do there what it would do for the
 * owner's git in the work tree:
 *
 * - `lfs/`, where it keeps what it downloads: the one in the user's git directory, by a link. Not
 *   by `lfs.storage`, which it would take for the remote's too when the remote is a path.
 * - HEAD and its `.lfsconfig`, which may say where the server is. The owner's own git brings that
 *   file where it is missing: git-lfs could not, since a checkout directory is not the owner's to
 *   write to, and would ask another server without a word.
 *
 * Write order: the link, the file, HEAD. So where HEAD is right, all is.
 */

import type { CheckoutDir } from "./checkout.ts";
import { pathExists, readTextIfExists, writeFileAtomically } from "./files.ts";
import { gitText, runGit } from "./process.ts";
import { ownersOptions } from "./attributes.ts";
import { readHead } from "./user_git_dir.ts";
import { runShell } from "./user_shell.ts";

/** Before a run of git-lfs. Throws GitError, the signal's reason. */
export async function prepareLfs(
  { gitDir, owners }: CheckoutDir,
  signal: AbortSignal,
): Promise<void> {
  const { commitOid } = await readHead(owners);
  const head = `${commitOid}\n`;
  if (commitOid === null || await readTextIfExists(`${gitDir}/HEAD`) === head) return;
  await runShell(owners, 'mkdir -p "$GIT_DIR/lfs"');
  if (!await pathExists(`${gitDir}/lfs`)) {
    await Deno.symlink(`${owners.gitDir}/lfs`, `${gitDir}/lfs`);
  }
  const options = ownersOptions(owners, signal);
  const oid = ["ls-tree", "--object-only", commitOid, "--", ".lfsconfig"];
  const configOid = await gitText(oid, options);
  if (configOid !== "") await runGit(["cat-file", "-s", configOid], { ...options, probe: false });
  await writeFileAtomically(`${gitDir}/HEAD`, head, 0o644);
}
