/** What `--help` and the manual page say besides the verbs: exit codes, environment, files. */

import { EXIT_CODES } from "../failure.ts";

/** As in the README's table. */
export const EXIT_STATUS: readonly (readonly [code: number, meaning: string])[] = [
  [0, "done"],
  [EXIT_CODES.failed, "failed"],
  [EXIT_CODES.authentication, "the remote needs a login, or refused the one given"],
  [EXIT_CODES.network, "the remote cannot be reached"],
  [EXIT_CODES["not-mounted"], "not mounted, or no daemon runs"],
  [EXIT_CODES.busy, "busy: in use, or taken by something else"],
  [EXIT_CODES.fatal, "fatal: this machine or this user cannot do it"],
  [EXIT_CODES.usage, "wrong usage"],
  [130, "interrupted"],
];

export const ENVIRONMENT: readonly (readonly [name: string, meaning: string])[] = [
  [
    "ARTIFACT_FS_ROOT",
    "state root: registry, stores, socket, log (default: /var/lib/artifact-fs, or below " +
    "XDG_DATA_HOME)",
  ],
];

const COLUMNS = 76;

/** The end of `afs --help`. */
export const AFTER_HELP = `
Exit codes:
${EXIT_STATUS.map(([code, meaning]) => `  ${String(code).padEnd(5)}${meaning}`).join("\n")}

Environment:
${ENVIRONMENT.map(([name, meaning]) => paragraph(`  ${name}  `, meaning)).join("\n")}
`;

/** The text behind a heading, its lines below each other. */
function paragraph(heading: string, text: string): string {
  const lines = [heading];
  for (const word of text.split(" ")) {
    const last = lines.at(-1) as string;
    const joined = last.endsWith(" ") ? last + word : `${last} ${word}`;
    if (joined.length <= COLUMNS) lines[lines.length - 1] = joined;
    else lines.push(" ".repeat(heading.length) + word);
  }
  return lines.join("\n");
}
