/** One datagram to a unix socket: how a service manager is told something (sd_notify(3)). */

import { ERRNO } from "../errno.ts";
import { closeFd } from "./fd.ts";
import { cString, errno, libc } from "./libc.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** sun_path of sockaddr_un (unix(7)). */
const PATH_MAX_BYTES = 108;

/**
 * Sends `text` to the socket with this address: a path, or `@` and an abstract name. Never waits: 0
 * or errno (EAGAIN: the receiver's queue is full).
 */
export function sendDatagram(address: string, text: string): number {
  const target = unixAddress(address);
  if (target === null) return ERRNO.EINVAL;
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno();
  const bytes = new TextEncoder().encode(text);
  const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  const sent = libc.sendto(fd, bytes, BigInt(bytes.length), flags, target, target.length);
  const error = sent < 0 ? errno() : 0;
  closeFd(fd);
  return error;
}

/** struct sockaddr_un; an abstract name begins with NUL and ends with the structure. */
function unixAddress(address: string): Uint8Array<ArrayBuffer> | null {
  const isAbstract = address.startsWith("@");
  if (!isAbstract && !address.startsWith("/")) return null;
  const name = cString(address);
  const path = isAbstract ? name.subarray(0, -1) : name;
  if (path.length > PATH_MAX_BYTES) return null;
  if (isAbstract) path[0] = 0;
  const bytes = new Uint8Array(2 + path.length);
  new DataView(bytes.buffer).setUint16(0, AF_UNIX, true);
  bytes.set(path, 2);
  return bytes;
}
