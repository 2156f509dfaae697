/**
 * Views: private bare directories without a remote, one per mount, in which every object read of
 * ours runs. A missing object is "missing" there, and no configuration but ours is read. Its own
 * packs are imports (import.ts).
 */

import { configText } from "./config_file.ts";
import { makeFolder, writeFileAtomically } from "./files.ts";
import type { ObjectFormat } from "./oid.ts";

/**
 * Makes a view in `viewDir`, whose parent exists. Objects are those of the named object folders,
 * which need not exist yet.
 */
export async function createView(
  viewDir: string,
  options: {
    readonly objectFormat: ObjectFormat;
    /** `<git directory>/objects`. */
    readonly objectDirs: readonly string[];
  },
): Promise<void> {
  const text = configText([
    ["core", null, "repositoryFormatVersion", "1"],
    ["core", null, "bare", "true"],
    ["core", null, "bigFileThreshold", "1m"],
    ...(options.objectFormat === "sha1"
      ? []
      : [["extensions", null, "objectFormat", options.objectFormat] as const]),
    ["gc", null, "auto", "0"],
    ["maintenance", null, "auto", "false"],
  ]);
  await makeFolder(viewDir, 0o700);
  for (const folder of ["objects", "objects/info", "objects/pack", "refs"]) {
    await makeFolder(`${viewDir}/${folder}`, 0o700);
  }
  const alternates = alternatesText(options.objectDirs);
  await writeFileAtomically(`${viewDir}/objects/info/alternates`, alternates, 0o600);
  await writeFileAtomically(`${viewDir}/config`, text, 0o600);
  // Last: without HEAD git does not take it for a repository.
  await writeFileAtomically(`${viewDir}/HEAD`, "ref: refs/heads/none\n", 0o600);
}

/** Content of objects/info/alternates. */
export function alternatesText(objectDirs: readonly string[]): string {
  return objectDirs.map((path) => `${alternateOf(path)}\n`).join("");
}

/** One line of objects/info/alternates; C-quoted when it begins with a quote or holds a newline. */
export function alternateOf(path: string): string {
  if (!/^["#]|\n/.test(path)) return path;
  return `"${path.replaceAll(/[\\"]/g, "\\$&").replaceAll("\n", "\\n")}"`;
}
