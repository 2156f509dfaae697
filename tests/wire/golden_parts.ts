/** What golden rows are made of. */

import type { Script, Seen } from "../fakes/fake_filesystem.ts";

export interface Golden {
  readonly name: string;
  readonly script: Script;
  readonly request: string;
  readonly reply: string | null;
  /** Calls of the file system. */
  readonly calls: readonly (readonly Seen[])[];
  /** Bytes of the body without which the request cannot be understood. */
  readonly neededBytes: number;
}

export const NODE = 0x12233445566778;

/** fuse_attr of ATTR. */
export const ATTR_HEX = `
  436587a9cbed1f00  # ino
  0300000001000000  # size
  0500000002000000  # blocks
  8967452301000000  # atime
  ffffffffffffffff  # mtime -1
  01000000feffffff  # ctime -0x1ffffffff
  ffc99a3b          # atimensec 999,999,999
  fecaad0b          # mtimensec
  01000000          # ctimensec
  a4810000          # mode
  efbeadde          # nlink
  0100feca          # uid
  0200feca          # gid
  0300feca          # rdev
  00100000          # blksize
  00000000          # flags
`;

/** fuse_entry_out of ENTRY. */
export const ENTRY_HEX = `
  7766554433221100  # nodeid
  0000000000000000  # generation
  8051010000000000  # entry_valid 86400
  0100000000000000  # attr_valid 1
  80b2e60e          # entry_valid_nsec 250,000,000
  0065cd1d          # attr_valid_nsec 500,000,000
  ${ATTR_HEX}
`;
