/** Rules of permission bits that the kernel leaves to us (FUSE_HANDLE_KILLPRIV_V2). */

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o010;

/**
 * Without setuid, and without setgid where the group may execute: setgid alone meant mandatory
 * locking (setattr_should_drop_suidgid in fs/attr.c).
 */
export function withoutSuidGid(mode: number): number {
  const withoutSuid = mode & ~S_ISUID;
  return (mode & S_IXGRP) === 0 ? withoutSuid : withoutSuid & ~S_ISGID;
}
