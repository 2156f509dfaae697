/**
 * A file system of its own for both sides, new in each round.
 *
 * ext4 without a journal does not give out an inode again for a minute or more after it was freed
 * (recently_deleted in fs/ext4/ialloc.c): after some thousand deletions a create looks through all
 * of them, and takes up to a millisecond. That hits both sides, but not alike: the backing files of
 * a mount all lie in one directory, and so in one group of inodes. On a new file system nothing was
 * deleted, and one with a journal has no such rule.
 */

import { run } from "../support/run.ts";
import type { Closer, World } from "./world.ts";

/** Sparse: what is not written takes no room. */
const SIZE = "8G";

export interface Disk {
  readonly path: string;
  readonly kind: string;
  readonly remove: Closer;
}

/** Without loop devices or the right to mount: a folder, with whatever was deleted there before. */
export async function freshDisk(world: World): Promise<Disk> {
  const path = world.fresh("disk");
  const image = world.fresh("image");
  Deno.mkdirSync(path);
  const script = `truncate -s ${SIZE} "$1" && mkfs.ext4 -q -F -E lazy_itable_init=0 "$1" &&
    mount -o loop,noatime "$1" "$2"`;
  const made = await run("sh", ["-c", script, "sh", image, path], { okCodes: "any" });
  const mounted = made.code === 0;
  const remove = world.own(async () => {
    if (mounted) await run("umount", ["--", path], { okCodes: "any" });
    for (const each of [image, path]) {
      await run("rm", ["-rf", "--one-file-system", "--", each], { okCodes: "any" });
    }
  });
  return { path, kind: mounted ? "one ext4 on a loop device" : "one folder", remove };
}
