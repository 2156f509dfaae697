/**
 * Notifications: what the kernel is told without having asked. Their header has 0 for `unique` and
 * their number for the error. The kernel answers ENOENT for what it does not hold.
 *
 * Which one waits for whom (6.18, fs/fuse/dev.c, dir.c, inode.c):
 *  - invalEntry takes the directory's lock, so it waits for whoever looks something up, lists or
 *    makes something there, and so for our reply to them;
 *  - invalInode of pages waits for pages that are being filled;
 *  - invalAttributes waits for nobody.
 * So no thread that answers requests writes the first.
 *
 * That invalEntry waits is what a `barrier` is for: when it is written, whoever had changed names in
 * the directory before has done so in the kernel, too.
 */

import { bytesOf, type Name } from "../path.ts";
import {
  FUSE_NOTIFY_INVAL_ENTRY,
  FUSE_NOTIFY_INVAL_INODE,
  NOTIFY_INVAL_ENTRY_OUT,
  NOTIFY_INVAL_INODE_OUT,
  OUT_HEADER,
} from "./abi.ts";

/** From this minor version on (Linux 6.2) a name can be expired; before, the flag means nothing. */
const EXPIRE_ONLY_MINOR = 38;
const FUSE_EXPIRE_ONLY = 1;
/** No directory has such a name. */
const NO_NAME = "/" as Name;

const BODY = OUT_HEADER.sizeBytes;

/**
 * The kernel drops a node's attributes and all it has cached of its pages, which for a directory
 * are its listing (fuse_notify_inval_inode).
 */
export function invalInode(nodeid: number): Uint8Array<ArrayBuffer> {
  return inval(nodeid, 0n);
}

/** The kernel drops a node's attributes. */
export function invalAttributes(nodeid: number): Uint8Array<ArrayBuffer> {
  return inval(nodeid, -1n);
}

/**
 * The kernel drops what it knows of a name, also that nothing is there (fuse_notify_inval_entry).
 * Not for a directory that stays: a shell inside would lose it, and what is mounted below would go.
 */
export function invalEntry(parentNodeid: number, name: Name): Uint8Array<ArrayBuffer> {
  const { at, sizeBytes } = NOTIFY_INVAL_ENTRY_OUT;
  const message = new Uint8Array(BODY + sizeBytes + name.length + 1);
  const view = header(message, FUSE_NOTIFY_INVAL_ENTRY);
  view.setBigUint64(BODY + at.parent, BigInt(parentNodeid), true);
  view.setUint32(BODY + at.namelen, name.length, true);
  message.set(bytesOf(name), BODY + sizeBytes);
  return message;
}

/**
 * Waits for whoever changes that name, or changed another one in the directory before. The name
 * stays, and the kernel asks for it when it is needed next (fuse_dentry_revalidate). From Linux
 * 6.19 on the directory is locked only when the kernel holds the name, as it does while it is
 * changed; before, always, so a name that nobody has will do where names cannot be expired.
 */
export function barrier(
  parentNodeid: number,
  name: Name,
  protocolMinor: number,
): Uint8Array<ArrayBuffer> {
  if (protocolMinor < EXPIRE_ONLY_MINOR) return invalEntry(parentNodeid, NO_NAME);
  const message = invalEntry(parentNodeid, name);
  const at = BODY + NOTIFY_INVAL_ENTRY_OUT.at.flags;
  new DataView(message.buffer).setUint32(at, FUSE_EXPIRE_ONLY, true);
  return message;
}

/** One after the other, each with its length in its header. */
export function joinMessages(messages: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(messages.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const message of messages) {
    all.set(message, at);
    at += message.length;
  }
  return all;
}

export function* splitMessages(all: Uint8Array<ArrayBuffer>): Generator<Uint8Array<ArrayBuffer>> {
  const view = new DataView(all.buffer, all.byteOffset, all.byteLength);
  for (let at = 0; at < all.length;) {
    const end = at + view.getUint32(at + OUT_HEADER.at.len, true);
    yield all.subarray(at, end);
    at = end;
  }
}

function inval(nodeid: number, offset: bigint): Uint8Array<ArrayBuffer> {
  const { at, sizeBytes } = NOTIFY_INVAL_INODE_OUT;
  const message = new Uint8Array(BODY + sizeBytes);
  const view = header(message, FUSE_NOTIFY_INVAL_INODE);
  view.setBigUint64(BODY + at.ino, BigInt(nodeid), true);
  view.setBigInt64(BODY + at.off, offset, true);
  return message;
}

function header(message: Uint8Array<ArrayBuffer>, code: number): DataView {
  const view = new DataView(message.buffer);
  view.setUint32(OUT_HEADER.at.len, message.length, true);
  view.setInt32(OUT_HEADER.at.error, code, true);
  return view;
}
