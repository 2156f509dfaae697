/** Options that several commands share, and how their values are read. */

import { type Command, InvalidArgumentError } from "commander";
import type { Selector } from "../control/api.ts";
import { Failure } from "../failure.ts";
import { parseInterval } from "../repo/interval.ts";
import { effectiveGid, effectiveUid } from "../sys/mod.ts";
import { variable } from "./environment.ts";
import { hostPath } from "./host_paths.ts";

/** A whole number from `min`; commander prints what is wrong. */
export function wholeNumber(min: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= 0xffff_fffe) return value;
    throw new InvalidArgumentError(`Give a whole number of ${min} or more.`);
  };
}

/** Of TCP; commander prints what is wrong. */
export function portNumber(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= 65535) return value;
  throw new InvalidArgumentError("Give a port from 1 to 65535.");
}

/** An object, since commander takes null for a value that is missing. */
export interface Interval {
  /** Null: never. */
  readonly seconds: number | null;
}

/** `30s`, `5m`, `1h`, `never`; commander prints what is wrong. */
export function interval(text: string): Interval {
  const seconds = parseInterval(text);
  if (seconds !== undefined) return { seconds };
  throw new InvalidArgumentError("Give a number with s, m or h, from 1s to 168h, or never.");
}

export interface OwnerOptions {
  readonly uid?: number;
  readonly gid?: number;
}

export function addOwnerOptions(command: Command): Command {
  return command
    .option(
      "--uid <uid>",
      "owner of the files (default: who called sudo, else you)",
      wholeNumber(0),
    )
    .option("--gid <gid>", "group of the files; with --uid", wholeNumber(0));
}

/** Whose the files are. Throws Failure (usage) for one without the other. */
export function ownerFrom({ uid, gid }: OwnerOptions): { uid: number; gid: number } {
  if (uid !== undefined && gid !== undefined) return { uid, gid };
  if (uid !== undefined || gid !== undefined) {
    throw new Failure("usage", "Cannot use --uid or --gid alone: give both");
  }
  const self = { uid: effectiveUid(), gid: effectiveGid() };
  if (self.uid !== 0) return self;
  return sudoCaller() ?? self;
}

function sudoCaller(): { uid: number; gid: number } | null {
  const [uid, gid] = [variable("SUDO_UID"), variable("SUDO_GID")];
  if (uid === undefined || gid === undefined) return null;
  if (!/^\d{1,9}$/.test(uid) || !/^\d{1,9}$/.test(gid)) return null;
  return { uid: Number(uid), gid: Number(gid) };
}

export interface WhichOptions {
  readonly name?: string;
}

export function addNameOption(command: Command): Command {
  return command.option("--name <repo>", "the repository of this name, instead of a directory");
}

/**
 * The repository that was named; null: none was. Throws Failure (usage) when two ways were used.
 */
export function selectorFrom(dir: string | undefined, { name }: WhichOptions): Selector | null {
  if (dir !== undefined && name !== undefined) {
    throw new Failure("usage", "Cannot use a directory and --name together: give one of them");
  }
  if (name !== undefined) return { by: "name", name };
  return dir === undefined ? null : { by: "dir", dir: hostPath(dir) };
}

/** As selectorFrom, but something must be named. */
export function requiredSelector(dir: string | undefined, options: WhichOptions): Selector {
  const selector = selectorFrom(dir, options);
  if (selector !== null) return selector;
  throw new Failure("usage", "Cannot tell which repository: give its directory or --name");
}

export interface JsonOption {
  readonly json?: true;
}

export function addJsonOption(command: Command): Command {
  return command.option("--json", "print one line of JSON");
}
