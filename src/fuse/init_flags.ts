/**
 * Every INIT flag of protocol 7.45: wanted or refused, and why. The reply holds the wanted flags
 * that the kernel offers. (include/uapi/linux/fuse.h; process_init_reply in fs/fuse/inode.c)
 */

export interface InitFlag {
  readonly name: string;
  /** 0-31: `flags`; 32-63: `flags2`. */
  readonly bit: number;
  readonly want: boolean;
  readonly reason: string;
}

function want(bit: number, name: string, reason: string): InitFlag {
  return { bit, name, want: true, reason };
}

function refuse(bit: number, name: string, reason: string): InitFlag {
  return { bit, name, want: false, reason };
}

export const INIT_FLAGS: readonly InitFlag[] = [
  want(0, "FUSE_ASYNC_READ", "readahead of one file may run in parallel"),
  refuse(1, "FUSE_POSIX_LOCKS", "local locks are right: this kernel is the only user"),
  refuse(2, "FUSE_FILE_OPS", "no file handles"),
  refuse(3, "FUSE_ATOMIC_O_TRUNC", "with no-open it loses truncations"),
  refuse(4, "FUSE_EXPORT_SUPPORT", "node ids are not kept over a restart"),
  want(5, "FUSE_BIG_WRITES", "one request for many pages; always on in new kernels"),
  refuse(6, "FUSE_DONT_MASK", "the kernel applies the umask"),
  refuse(7, "FUSE_SPLICE_WRITE", "needs splice on our side"),
  refuse(8, "FUSE_SPLICE_MOVE", "needs splice on our side"),
  refuse(9, "FUSE_SPLICE_READ", "needs splice on our side"),
  refuse(10, "FUSE_FLOCK_LOCKS", "local locks are right: this kernel is the only user"),
  refuse(11, "FUSE_HAS_IOCTL_DIR", "no ioctl"),
  refuse(12, "FUSE_AUTO_INVAL_DATA", "content of a node changes only by requests of this kernel"),
  want(13, "FUSE_DO_READDIRPLUS", "a listing brings the attributes along"),
  want(14, "FUSE_READDIRPLUS_AUTO", "only where somebody asks for attributes"),
  refuse(15, "FUSE_ASYNC_DIO", "gains nothing: one thread answers"),
  refuse(16, "FUSE_WRITEBACK_CACHE", "an acknowledged write must be in our hands"),
  want(17, "FUSE_NO_OPEN_SUPPORT", "open and close cost no round trip"),
  want(18, "FUSE_PARALLEL_DIROPS", "lookups in one directory need not wait for each other"),
  refuse(19, "FUSE_HANDLE_KILLPRIV", "version 2 is asked for"),
  refuse(20, "FUSE_POSIX_ACL", "no ACLs in a repository"),
  want(21, "FUSE_ABORT_ERROR", "an aborted mount is still in the tree, an unmounted one is not"),
  want(22, "FUSE_MAX_PAGES", "reads and writes of up to 1 MiB"),
  want(23, "FUSE_CACHE_SYMLINKS", "link targets do not change under a node"),
  want(24, "FUSE_NO_OPENDIR_SUPPORT", "opendir costs no round trip, listings are cached"),
  refuse(25, "FUSE_EXPLICIT_INVAL_DATA", "pages are dropped by our own notifications"),
  refuse(26, "FUSE_MAP_ALIGNMENT", "DAX of virtiofs"),
  refuse(27, "FUSE_SUBMOUNTS", "no mounts within the mount"),
  want(28, "FUSE_HANDLE_KILLPRIV_V2", "we clear setuid when told; no GETXATTR before a write"),
  refuse(29, "FUSE_SETXATTR_EXT", "it is about SGID and ACLs, and there are no ACLs"),
  want(30, "FUSE_INIT_EXT", "flags2"),
  refuse(31, "FUSE_INIT_RESERVED", "reserved"),
  refuse(32, "FUSE_SECURITY_CTX", "no security labels in a repository"),
  refuse(33, "FUSE_HAS_INODE_DAX", "DAX of virtiofs"),
  refuse(34, "FUSE_CREATE_SUPP_GROUP", "new files take the caller's group"),
  refuse(35, "FUSE_HAS_EXPIRE_ONLY", "only tells what the kernel can do; not an option"),
  refuse(36, "FUSE_DIRECT_IO_ALLOW_MMAP", "no direct-io handles"),
  refuse(37, "FUSE_PASSTHROUGH", "needs an OPEN round trip for every file"),
  refuse(38, "FUSE_NO_EXPORT_SUPPORT", "file handles of live nodes are harmless"),
  refuse(39, "FUSE_HAS_RESEND", "no session is handed over"),
  refuse(40, "FUSE_ALLOW_IDMAP", "not tried with mapped mounts"),
  refuse(41, "FUSE_OVER_IO_URING", "the device is read"),
  refuse(42, "FUSE_REQUEST_TIMEOUT", "a slow remote must not abort the mount"),
];

/** The two words of flags for the reply, out of the two the kernel offers. */
export function negotiateFlags(offered: { flags: number; flags2: number }): {
  flags: number;
  flags2: number;
} {
  let flags = 0;
  let flags2 = 0;
  for (const { bit, want } of INIT_FLAGS) {
    if (!want) continue;
    if (bit < 32) flags |= 1 << bit;
    else flags2 |= 1 << (bit - 32);
  }
  return { flags: (flags & offered.flags) >>> 0, flags2: (flags2 & offered.flags2) >>> 0 };
}
