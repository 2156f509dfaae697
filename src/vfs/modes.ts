/** Rules of permission bits that the kernel leaves to us (FUSE_HANDLE_KILLPRIV_V2). */

const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
const S_IXGRP = 0o010;

/**
 * After chown(2), also root's: setgid without the right of the group to execute is no privilege and
 * stays (setattr_should_drop_suidgid in fs/attr.c).
 */
export function afterChown(mode: number): number {
  const withoutSuid = mode & ~S_ISUID;
  return (mode & S_IXGRP) === 0 ? withoutSuid : withoutSuid & ~S_ISGID;
}

/**
 * After a change of content by a caller of this group. Whoever has the file's group among others we
 * are not told, and taking too much is the safe side.
 */
export function afterWrite(
  file: { readonly mode: number; readonly gid: number },
  gid: number,
): number {
  return file.gid === gid ? afterChown(file.mode) : file.mode & ~(S_ISUID | S_ISGID);
}
