/**
 * One row per opcode: its name, what it does, and whether it may ever answer ENOSYS. The kernel
 * remembers ENOSYS for the life of the mount, and for FSYNC and FSYNCDIR takes it as success.
 */

import { ERRNO } from "../errno.ts";
import { OPCODE } from "./abi.ts";
import * as change from "./change_ops.ts";
import type { Handled, Op, OpContext } from "./op.ts";
import * as read from "./read_ops.ts";
import * as xattr from "./xattr_ops.ts";

function op(name: string, handle: (context: OpContext) => Handled): Op {
  return { name, mayAnswerEnosys: false, handle };
}

/** The kernel does it by itself from now on, or never asks again. */
function unneeded(name: string): Op {
  return {
    name,
    mayAnswerEnosys: true,
    handle: ({ request, reply }) => reply.error(request, ERRNO.ENOSYS),
  };
}

/** Not needed on a mount without extended attributes. */
function xattrOp(name: string, handle: (context: OpContext) => Handled): Op {
  const without = unneeded(name);
  return {
    ...without,
    handle: (context) => (context.filesystem.hasXattrs ? handle : without.handle)(context),
  };
}

/** There are no handles to release. */
function nothingToDo(name: string): Op {
  return op(name, ({ request, reply }) => reply.empty(request));
}

/** The kernel waits for no reply to these, not even to one that is malformed (fs/fuse/dev.c). */
export const UNANSWERED: ReadonlySet<number> = new Set([
  OPCODE.FUSE_FORGET,
  OPCODE.FUSE_BATCH_FORGET,
  OPCODE.FUSE_INTERRUPT,
  OPCODE.FUSE_NOTIFY_REPLY,
]);

/** Every opcode but INIT, which the session answers. */
export const OPS: ReadonlyMap<number, Op> = new Map<number, Op>([
  [OPCODE.FUSE_LOOKUP, op("LOOKUP", read.lookup)],
  [OPCODE.FUSE_FORGET, op("FORGET", read.forget)],
  [OPCODE.FUSE_BATCH_FORGET, op("BATCH_FORGET", read.batchForget)],
  [OPCODE.FUSE_GETATTR, op("GETATTR", read.getattr)],
  [OPCODE.FUSE_READLINK, op("READLINK", read.readlink)],
  [OPCODE.FUSE_READ, op("READ", read.read)],
  [OPCODE.FUSE_READDIR, op("READDIR", read.readdir)],
  [OPCODE.FUSE_READDIRPLUS, op("READDIRPLUS", read.readdirplus)],
  [OPCODE.FUSE_STATFS, op("STATFS", read.statfs)],
  [OPCODE.FUSE_LSEEK, op("LSEEK", read.lseek)],
  [OPCODE.FUSE_SETATTR, op("SETATTR", change.setattr)],
  [OPCODE.FUSE_MKNOD, op("MKNOD", change.mknod)],
  [OPCODE.FUSE_MKDIR, op("MKDIR", change.mkdir)],
  [OPCODE.FUSE_SYMLINK, op("SYMLINK", change.symlink)],
  [OPCODE.FUSE_LINK, op("LINK", change.link)],
  [OPCODE.FUSE_UNLINK, op("UNLINK", change.unlink)],
  [OPCODE.FUSE_RMDIR, op("RMDIR", change.rmdir)],
  [OPCODE.FUSE_RENAME, op("RENAME", change.rename)],
  [OPCODE.FUSE_RENAME2, op("RENAME2", change.rename2)],
  [OPCODE.FUSE_TMPFILE, op("TMPFILE", change.tmpfile)],
  [OPCODE.FUSE_WRITE, op("WRITE", change.write)],
  [OPCODE.FUSE_FALLOCATE, op("FALLOCATE", change.fallocate)],
  [OPCODE.FUSE_COPY_FILE_RANGE, op("COPY_FILE_RANGE", change.copyFileRange)],
  [OPCODE.FUSE_COPY_FILE_RANGE_64, op("COPY_FILE_RANGE_64", change.copyFileRange64)],
  [OPCODE.FUSE_FSYNC, op("FSYNC", change.fsync)],
  [OPCODE.FUSE_FSYNCDIR, op("FSYNCDIR", change.fsyncdir)],
  [OPCODE.FUSE_GETXATTR, xattrOp("GETXATTR", xattr.getxattr)],
  [OPCODE.FUSE_LISTXATTR, xattrOp("LISTXATTR", xattr.listxattr)],
  [OPCODE.FUSE_SETXATTR, xattrOp("SETXATTR", xattr.setxattr)],
  [OPCODE.FUSE_REMOVEXATTR, xattrOp("REMOVEXATTR", xattr.removexattr)],
  [OPCODE.FUSE_INTERRUPT, op("INTERRUPT", read.interrupt)],
  [OPCODE.FUSE_DESTROY, op("DESTROY", read.destroy)],
  [OPCODE.FUSE_NOTIFY_REPLY, op("NOTIFY_REPLY", () => null)],
  [OPCODE.FUSE_OPEN, unneeded("OPEN")],
  [OPCODE.FUSE_OPENDIR, unneeded("OPENDIR")],
  [OPCODE.FUSE_CREATE, unneeded("CREATE")],
  [OPCODE.FUSE_FLUSH, unneeded("FLUSH")],
  [OPCODE.FUSE_ACCESS, unneeded("ACCESS")],
  [OPCODE.FUSE_STATX, unneeded("STATX")],
  [OPCODE.FUSE_BMAP, unneeded("BMAP")],
  [OPCODE.FUSE_IOCTL, unneeded("IOCTL")],
  [OPCODE.FUSE_POLL, unneeded("POLL")],
  [OPCODE.FUSE_GETLK, unneeded("GETLK")],
  [OPCODE.FUSE_SETLK, unneeded("SETLK")],
  [OPCODE.FUSE_SETLKW, unneeded("SETLKW")],
  [OPCODE.FUSE_SYNCFS, unneeded("SYNCFS")],
  [OPCODE.FUSE_RELEASE, nothingToDo("RELEASE")],
  [OPCODE.FUSE_RELEASEDIR, nothingToDo("RELEASEDIR")],
]);
