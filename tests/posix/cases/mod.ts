/** All cases, by area. */

import type { PosixCase } from "../case.ts";
import { ATTRIBUTES } from "./attributes.ts";
import { DATA } from "./data.ts";
import { DIRECTORIES } from "./directories.ts";
import { LINKS } from "./links.ts";
import { NAMES } from "./names.ts";
import { OPEN } from "./open.ts";
import { PERMISSIONS } from "./permissions.ts";
import { PROCESSES } from "./processes.ts";
import { RANDOM } from "./random.ts";
import { RENAME } from "./rename.ts";
import { SPACE } from "./space.ts";
import { TIMES } from "./times.ts";
import { XATTRS } from "./xattrs.ts";

export const CASES: readonly PosixCase[] = [
  ...OPEN,
  ...DATA,
  ...SPACE,
  ...NAMES,
  ...LINKS,
  ...RENAME,
  ...ATTRIBUTES,
  ...PERMISSIONS,
  ...TIMES,
  ...XATTRS,
  ...DIRECTORIES,
  ...PROCESSES,
  ...RANDOM,
];
