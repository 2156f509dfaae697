/** What the figures of writing start from. */

import { ObjectWriter, Random, TreeBuilder } from "../support/git_objects.ts";
import { git } from "../support/run.ts";

/** `big/0` and so on, 1 MiB each, all different. */
export const COPY_UP_FILES = 24;
/** `wide/0` and so on, a few bytes each. */
const WIDE_FILES = 10_000;

export async function makeWriteRepo(gitDir: string): Promise<void> {
  await git(["init", "--quiet", "--bare", "--template=", "--initial-branch=main", gitDir]);
  const writer = new ObjectWriter();
  const random = new Random(1);
  const tree = new TreeBuilder();
  for (let i = 0; i < WIDE_FILES; i++) tree.put(`wide/${i}`, "100644", writer.blob(`${i}\n`));
  for (let i = 0; i < COPY_UP_FILES; i++) {
    tree.put(`big/${i}`, "100644", writer.blob(random.bytes(1 << 20)));
  }
  const commit = writer.commit(tree.write(writer), [], 0, "commit 1");
  await writer.flush(gitDir);
  await git(["-C", gitDir, "update-ref", "refs/heads/main", commit]);
}
