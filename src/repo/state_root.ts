/** Makes the folders of the state root with the rights of layout.ts, whatever the umask is. */

import { Failure, messageOf } from "../failure.ts";
import { makeFolder, pathExists } from "../git/files.ts";
import type { Layout } from "./layout.ts";

/** Others may pass through, and see nothing. */
const PASSABLE = 0o711;
const PRIVATE = 0o700;

/** Safe to call again and from several processes at once. Throws Failure (fatal). */
export async function makeStateRoot(layout: Layout): Promise<void> {
  try {
    // Its parents are ordinary folders of the user or the system.
    const parent = layout.stateRoot.replace(/\/[^/]*\/*$/, "");
    // Only if it is missing: Deno refuses to make a folder above a program it may run, such as the
    // home of a user whose git lies in it, even where the folder exists.
    if (parent !== "" && !await pathExists(parent)) {
      await Deno.mkdir(parent, { recursive: true, mode: 0o755 });
    }
    await makeFolder(layout.stateRoot, PASSABLE);
    await Promise.all([
      makeFolder(layout.emptyDir, PASSABLE),
      makeFolder(layout.storesDir, PASSABLE),
      makeFolder(layout.userGitDirsDir, PASSABLE),
      makeFolder(layout.convertDirsDir, PASSABLE),
      makeFolder(layout.credentialsDir, PASSABLE),
      makeFolder(layout.reposDir, PRIVATE),
    ]);
  } catch (error) {
    throw new Failure(
      "fatal",
      `Cannot make the state root ${layout.stateRoot}: ${
        messageOf(error)
      }; set ARTIFACT_FS_ROOT to a folder you may write`,
      { cause: error },
    );
  }
}

/** The folder of a store; returns whether it was made. */
export async function makeStoreDir(layout: Layout, storeId: string): Promise<boolean> {
  return await makeFolder(layout.store(storeId).dir, PASSABLE);
}
