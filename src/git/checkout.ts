/**
 * What a checkout makes of blobs: `git checkout-index --temp`, as the owner, in a git directory of
 * ours in which an attributes file says the conversion, with an index of the wanted blobs and an
 * empty work tree of the owner's. The owner's configuration counts there, that of the user's git
 * directory included, so drivers and LFS are what they are for the owner's git.
 *
 * The git directory is ours, and nobody else may write to it: what runs there cannot be made to do
 * something else. What it writes is the owner's, and hostile: whoever takes it looks at what it is.
 */

import { bytesOf, byteString } from "../path.ts";
import { attributesLine, type Conversion } from "./conversion.ts";
import type { OwnersGit } from "./attributes.ts";
import { configText } from "./config_file.ts";
import { makeFolder, writeFileAtomically } from "./files.ts";
import { NO_STAT, serializeIndex } from "./index_file.ts";
import { prepareLfs } from "./lfs.ts";
import type { ObjectFormat, Oid } from "./oid.ts";
import { runGit } from "./process.ts";
import { alternateOf } from "./view.ts";

export interface CheckoutDir {
  /** Ours. */
  readonly gitDir: string;
  /** The owner's, where git writes. */
  readonly workDir: string;
  readonly objectFormat: ObjectFormat;
  readonly owners: OwnersGit;
}

export interface CheckoutFile {
  /** What a driver is told; each once in a run. Bytes. */
  readonly path: string;
  readonly oid: Oid;
}

/** A download of LFS may take so long. */
const DRIVER_MS = 30 * 60_000;
const PLAIN_MS = 60_000;
const TEMPORARY = /^\.merge_file_[A-Za-z0-9]+$/;

/** Makes the git directory, with a HEAD that has no commit. */
export async function createCheckoutDir(
  { gitDir, objectFormat, owners }: CheckoutDir,
  storeGitDir: string,
): Promise<void> {
  for (const folder of ["", "/objects", "/objects/info", "/refs", "/info"]) {
    await makeFolder(gitDir + folder, 0o755);
  }
  const config = configText([
    ["include", null, "path", `${owners.gitDir}/config`],
    ["core", null, "repositoryFormatVersion", objectFormat === "sha1" ? "0" : "1"],
    ["core", null, "bare", "false"],
    ...(objectFormat === "sha1"
      ? []
      : [["extensions", null, "objectFormat", objectFormat] as const]),
  ]);
  const objects = [`${storeGitDir}/objects`, `${owners.gitDir}/objects`];
  const alternates = objects.map((path) => `${alternateOf(path)}\n`).join("");
  await writeFileAtomically(`${gitDir}/config`, config, 0o644);
  await writeFileAtomically(`${gitDir}/objects/info/alternates`, alternates, 0o644);
  await writeFileAtomically(`${gitDir}/HEAD`, "ref: refs/heads/none\n", 0o644);
}

/**
 * Writes files with one conversion, which may differ in the path of its driver only; the names of
 * what was written in `workDir`, by path. One run at a time in a directory. Throws GitError when one
 * of them cannot be written, or the signal's reason; some may be there then.
 */
export async function checkOut(
  dir: CheckoutDir,
  files: readonly CheckoutFile[],
  conversion: Conversion,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const { gitDir, workDir, objectFormat, owners } = dir;
  const indexPath = `${gitDir}/index`;
  const entries = files
    .toSorted((a, b) => a.path < b.path ? -1 : 1)
    .map(({ path, oid }) => ({
      path: path as never,
      oid,
      mode: 0o100644,
      stage: 0,
      assumeValid: false,
      skipWorktree: false,
      intentToAdd: false,
      stat: NO_STAT,
    }));
  const index = serializeIndex({ version: 2, format: objectFormat, entries, extensions: [] });
  await writeFileAtomically(indexPath, index, 0o644);
  await writeFileAtomically(`${gitDir}/info/attributes`, attributesLine(conversion), 0o644);
  const hasDriver = conversion.filter !== null;
  if (conversion.filter?.name === "lfs") await prepareLfs(dir, signal);
  const { stdout } = await runGit(["checkout-index", "--temp", "--stdin", "-z"], {
    gitDir,
    workTree: workDir,
    owner: owners.owner,
    env: owners.env,
    config: ["checkout.workers=1"],
    // A driver may use git to fetch what it needs.
    probe: !hasDriver,
    timeoutMs: hasDriver ? DRIVER_MS : PLAIN_MS,
    stdin: bytesOf(files.map(({ path }) => `${path}\0`).join("")),
    signal,
  });
  const written = new Map<string, string>();
  for (const record of byteString(stdout).split("\0")) {
    const tab = record.indexOf("\t");
    const name = record.slice(0, tab);
    if (tab > 0 && TEMPORARY.test(name)) written.set(record.slice(tab + 1), name);
  }
  return written;
}
