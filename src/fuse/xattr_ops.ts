/** Handlers of extended attributes, for a file system that has them. */

import { ERRNO, FsError } from "../errno.ts";
import { GETXATTR_IN, SETXATTR_IN } from "./abi.ts";
import type { Handled, OpContext } from "./op.ts";

/** A caller with no room asks how much is needed; with too little room, ERANGE. */
function fitted(
  { request, reply }: OpContext,
  roomBytes: number,
  found: Uint8Array<ArrayBuffer>,
): Handled {
  if (roomBytes === 0) return reply.xattrSize(request, found.length);
  if (found.length > roomBytes) throw new FsError(ERRNO.ERANGE);
  return reply.bytesReply(request, found);
}

export function getxattr(context: OpContext): Handled {
  const { filesystem, request } = context;
  const room = request.u32(request.struct(GETXATTR_IN) + GETXATTR_IN.at.size);
  return fitted(context, room, filesystem.getxattr(request.nodeid, request.xattrName()));
}

export function listxattr(context: OpContext): Handled {
  const { filesystem, request } = context;
  const room = request.u32(request.struct(GETXATTR_IN) + GETXATTR_IN.at.size);
  return fitted(context, room, filesystem.listxattr(request.nodeid));
}

export function setxattr({ filesystem, request, reply }: OpContext): Handled {
  const at = request.struct(SETXATTR_IN);
  const flags = request.u32(at + SETXATTR_IN.at.flags);
  const name = request.xattrName();
  const value = request.bytes(request.u32(at + SETXATTR_IN.at.size)).slice();
  filesystem.setxattr(request.nodeid, name, value, flags);
  return reply.empty(request);
}

export function removexattr({ filesystem, request, reply }: OpContext): Handled {
  filesystem.removexattr(request.nodeid, request.xattrName());
  return reply.empty(request);
}
