/** The command line. */

import { fileURLToPath } from "node:url";

/** Groups of figures, in the order they are measured. */
export const GROUPS = [
  "acquire",
  "list",
  "scattered",
  "git",
  "read",
  "mount",
  "memory",
  "write",
  "big",
] as const;
export type Group = (typeof GROUPS)[number];

export interface Options {
  readonly rounds: number;
  /** Files of the generated repository; without effect with `repo`. */
  readonly files: number;
  readonly rttMs: number;
  /** A repository to measure instead of a generated one: a path, or a URL that is copied first. */
  readonly repo: string | null;
  /** Where all samples go, too. */
  readonly jsonPath: string | null;
  /** The program that is measured. */
  readonly program: string;
  /** Which groups of figures are measured; all unless told. */
  readonly groups: ReadonlySet<Group>;
  /** One round, fewer passes, no big blob. */
  readonly quick: boolean;
}

const VALUED = ["--rounds", "--files", "--rtt-ms", "--repo", "--json", "--afs", "--only"];

export class UsageError extends Error {
  override readonly name = "UsageError";
}

export const CHECKOUT = fileURLToPath(new URL("../../", import.meta.url)).replace(/\/$/, "");

export const USAGE = "usage: sh scripts/bench [--rounds N] [--files N] [--rtt-ms N] " +
  "[--repo PATH_OR_URL] [--json FILE] [--afs PROGRAM] [--quick] [--only GROUP[,GROUP]...]\n" +
  `groups: ${GROUPS.join(" ")}`;

export function parseOptions(args: readonly string[]): Options {
  const values = new Map<string, string>();
  let quick = false;
  for (let i = 0; i < args.length; i++) {
    const [flag = "", inline] = (args[i] ?? "").split(/=(.*)/s);
    if (flag === "--quick") {
      quick = true;
    } else if (VALUED.includes(flag)) {
      const value = inline ?? args[++i];
      if (value === undefined || value === "") throw new UsageError(`${flag} wants a value`);
      values.set(flag, value);
    } else {
      throw new UsageError(`unknown argument ${flag}`);
    }
  }
  const count = (flag: string, standard: number, min: number) => {
    const text = values.get(flag);
    if (text === undefined) return standard;
    const value = Number(text);
    if (!Number.isInteger(value) || value < min) {
      throw new UsageError(`${flag} wants a whole number of ${min} or more`);
    }
    return value;
  };
  return {
    rounds: count("--rounds", quick ? 1 : 4, 1),
    files: count("--files", 5000, 100),
    rttMs: count("--rtt-ms", 30, 0),
    repo: values.get("--repo") ?? null,
    jsonPath: values.get("--json") ?? null,
    program: values.get("--afs") ?? `${CHECKOUT}/dist/afs`,
    groups: groupsOf(values.get("--only"), quick),
    quick,
  };
}

function groupsOf(only: string | undefined, quick: boolean): ReadonlySet<Group> {
  if (only === undefined) return new Set(GROUPS.filter((group) => group !== "big" || !quick));
  const names = only.split(",");
  const unknown = names.find((name) => !(GROUPS as readonly string[]).includes(name));
  if (unknown !== undefined) throw new UsageError(`there is no group ${unknown}`);
  return new Set(names as Group[]);
}
