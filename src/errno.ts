/** Linux error numbers (include/uapi/asm-generic/errno-base.h, errno.h) and the error that carries one. */

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EPROTO: 71,
  EOPNOTSUPP: 95,
  ECONNABORTED: 103,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  EDQUOT: 122,
} as const;

const NAMES = new Map<number, string>(
  Object.entries(ERRNO).map(([name, errno]) => [errno, name]),
);

/** `EIO` for 5; `errno 99` for what has no name here. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

/** An expected failure of one operation: what the caller's system call says. errno > 0. */
export class FsError extends Error {
  override readonly name = "FsError";

  constructor(readonly errno: number, message = errnoName(errno), options?: ErrorOptions) {
    super(message, options);
  }
}
