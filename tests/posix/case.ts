/**
 * What a case is. A case is a table row: a directory to start from and steps, each a system call or
 * a few of them. The runner makes the same steps in two directories and compares what each step
 * gave and what is there at the end.
 *
 * A bare function as a step must succeed on the plain directory, so that a slip of the pen in a
 * case (a wrong name, say) does not look like agreement. All else is said by a helper below.
 */

import type { Part } from "./fixture.ts";
import type { Sys } from "./syscalls.ts";

/** Makes system calls; the result must survive JSON. Failures throw RawFsError. */
export type Call = (s: Sys) => unknown;

/** Who makes a step; each is a process of its own. Ids: see runner.ts. */
export type Actor = "root" | "peer" | "user" | "other" | "member";

/**
 * Where the files of a fixture come from: made by the first actor through the directory under
 * test, or there before anybody looked (in a mount: from the commit).
 */
export type Origin = "made" | "base";

export interface Step {
  readonly call: Call;
  /** The step's source, or its label; for messages. */
  readonly text: string;
  readonly actor: Actor;
  /** On the plain directory: "" to succeed, an errno's name to fail with it, null for either. */
  readonly expects: string | null;
  /** The side under test may fail with this; the case then ends, and its state is not compared. */
  readonly refusable?: string;
  /** Made on mounts only, where it must fail with `expects`. */
  readonly mountOnly?: boolean;
  /** "begin" does not wait for the actor's result; the actor's next "end" does. */
  readonly phase: "whole" | "begin" | "end";
}

export interface PosixCase {
  readonly name: string;
  /** What is in the directory at the start; without it the directory is empty. */
  readonly fixture?: readonly Part[];
  /** Both unless told; without a fixture, "made" is all there is. */
  readonly origins?: readonly Origin[];
  /** Made by root before the steps; what it changes does not count as changed. */
  readonly setup?: Call;
  readonly steps: readonly (Call | Step)[];
  /** Parts of the state that are not compared unless asked for. */
  readonly compare?: { readonly atime?: boolean; readonly xattr?: boolean };
  /** What the file system must have; without it the case is skipped. */
  readonly needs?: "xattr";
}

export function toStep(item: Call | Step): Step {
  if (typeof item !== "function") return item;
  const text = item.toString().replace(/\s+/g, " ").replace(/^\(s?\) ?=> ?/, "");
  return { call: item, text, actor: "root", expects: "", phase: "whole" };
}

/** Must fail with this errno. */
export function fails(errno: string, item: Call | Step): Step {
  return { ...toStep(item), expects: errno };
}

/** May succeed or fail, as long as both sides do the same. */
export function compared(text: string, call: Call): Step {
  return { ...toStep(call), text, expects: null };
}

/** A step with a label in place of its source, where the source says too little. */
export function named(text: string, item: Call | Step): Step {
  return { ...toStep(item), text };
}

/** Made by another process than root's first one. */
export function by(actor: Actor, item: Call | Step): Step {
  return { ...toStep(item), actor };
}

/** The FUSE client of the kernel refuses this; a mount may fail with `errno`. */
export function refusable(errno: string, item: Call | Step): Step {
  return { ...toStep(item), refusable: errno };
}

/** What a mount refuses on purpose although a plain directory has it. */
export function mountFails(errno: string, item: Call | Step): Step {
  return { ...toStep(item), expects: errno, mountOnly: true };
}

/** Starts a step that may block; `end(actor)` takes its result. */
export function begin(actor: Actor, item: Call | Step): Step {
  return { ...by(actor, item), phase: "begin" };
}

export function end(actor: Actor): Step {
  return { call: () => {}, text: `end of ${actor}'s step`, actor, expects: "", phase: "end" };
}

export function originsOf(test: PosixCase): readonly Origin[] {
  if (test.fixture === undefined) return ["made"];
  return test.origins ?? ["made", "base"];
}

/** The name of the case's directory; the same on both sides. */
export function directoryOf(test: PosixCase, origin: Origin): string {
  return `${origin}-${test.name.replace(/[^A-Za-z0-9]+/g, "-")}`;
}
