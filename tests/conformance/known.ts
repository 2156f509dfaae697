/** Cases that the mount may skip: each is the kernel's doing, or a choice of ours. */

import type { PlaceName } from "./suite.ts";

export interface Known {
  readonly suite: string;
  readonly name: string;
  readonly places: readonly PlaceName[];
  readonly why: string;
}

export const KNOWN: readonly Known[] = [
  {
    suite: "pjdfstest",
    name: "link::link_count_max",
    places: ["mount", "mount --xattr"],
    why: "the C library knows no LINK_MAX for FUSE, and the mount has no limit",
  },
  {
    suite: "stress-ng",
    name: "fiemap",
    places: ["mount"],
    why: "the kernel does not forward FIEMAP to FUSE",
  },
  {
    suite: "stress-ng",
    name: "xattr",
    places: ["mount"],
    why: "extended attributes are an option (--xattr)",
  },
];
