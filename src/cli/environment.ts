/**
 * The environment variables that this program reads, apart from those of git's module. A compiled
 * program may read no others (`--allow-env` in scripts/build).
 */

import { MANAGER_VARIABLES } from "../daemon/service_manager.ts";
import { READ_VARIABLES, REMOVED_VARIABLES } from "../git/process.ts";

export const VARIABLES = [
  /** The state root. */
  "ARTIFACT_FS_ROOT",
  /** Where the state root lies for users who may not write below /var/lib. */
  "XDG_DATA_HOME",
  /** Where git has the attributes of a user. */
  "XDG_CONFIG_HOME",
  "HOME",
  /** Who called sudo: whose the files of a mount are. */
  "SUDO_UID",
  "SUDO_GID",
  /** No colours; we print none, commander asks. */
  "NO_COLOR",
  /** `dumb`: no line is rewritten. */
  "TERM",
  /** Where `demo` puts its repository. */
  "TMPDIR",
] as const;

/** Every variable that scripts/build has to allow. */
export const ALLOWED_VARIABLES: readonly string[] = [
  ...VARIABLES,
  ...MANAGER_VARIABLES,
  ...READ_VARIABLES,
  ...REMOVED_VARIABLES,
];

export type Variable = (typeof VARIABLES)[number];

/** Its value; undefined when it is not set or empty. */
export function variable(name: Variable): string | undefined {
  const value = Deno.env.get(name);
  return value === "" ? undefined : value;
}
