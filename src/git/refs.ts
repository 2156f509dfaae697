/** Refs as git prints them. Ref names are bytes, so they are byte strings here. */

import { byteString } from "../path.ts";
import { isOid, type Oid } from "./oid.ts";
import { runGit, type RunOptions } from "./process.ts";

/** Full ref name as byte string (`refs/heads/main`) to the oid it holds; tags are not peeled. */
export type Refs = ReadonlyMap<string, Oid>;

/** A list of refs: some hundred thousand of them. Who has more, or sends more, is not read. */
export const REFS_BYTES_MAX = 64 * 1024 ** 2;

/** The refs below some prefixes (`refs/heads`). Throws GitError, Failure. */
export async function readRefs(options: RunOptions, prefixes: readonly string[]): Promise<Refs> {
  const { stdout } = await runGit(
    ["for-each-ref", "--format=%(objectname) %(refname)", ...prefixes],
    { probe: true, stdoutMaxBytes: REFS_BYTES_MAX, ...options },
  );
  return parsePackedRefs(byteString(stdout));
}

/**
 * The refs of a mirror as a clone has them: `refs/heads/x` is `refs/remotes/origin/x`, tags stay.
 */
export function trackingRefs(mirror: Refs): Map<string, Oid> {
  const refs = new Map<string, Oid>();
  for (const [name, value] of mirror) {
    if (name.startsWith(TAGS)) refs.set(name, value);
    else if (name.startsWith(HEADS)) refs.set(TRACKING + name.slice(HEADS.length), value);
  }
  return refs;
}

const TAGS = "refs/tags/";
const HEADS = "refs/heads/";
const TRACKING = "refs/remotes/origin/";

export type RefChange =
  | { readonly kind: "update"; readonly name: string; readonly to: Oid; readonly from: Oid | null }
  | { readonly kind: "delete"; readonly name: string; readonly from: Oid };

/**
 * What has to change in a user's refs after a fetch into the store.
 *
 * - A tracking ref follows the store only when it still is what it was before that fetch: one that
 *   the user's own fetch or push moved meanwhile is newer.
 * - A tag that exists is never moved (git fetch: "would clobber existing tag"), and one that it
 *   stands in the way of (`a` of `a/b`) does not come.
 * - A tracking ref that the remote no longer has stays, as after `git fetch`, but when it stands in
 *   the way of a new one (`a` of `a/b`) it goes.
 */
export function planRefs(mirror: Refs, before: Refs, now: Refs): RefChange[] {
  const wanted = trackingRefs(mirror);
  const changes: RefChange[] = [];
  const added: string[] = [];
  const tags = [...now.keys()].filter((name) => name.startsWith(TAGS));
  for (const [name, to] of wanted) {
    const from = now.get(name);
    if (from === to) continue;
    if (from === undefined) {
      if (name.startsWith(TAGS) && conflicts(name, tags)) continue;
      added.push(name);
    } else if (name.startsWith(TAGS) || before.get(name) !== from) continue;
    changes.push({ kind: "update", name, to, from: from ?? null });
  }
  const inTheWay = [...now.keys()].filter((name) => name.startsWith(TRACKING) && !wanted.has(name))
    .filter((name) => conflicts(name, added));
  const deletes = inTheWay.map((name): RefChange => ({
    kind: "delete",
    name,
    from: now.get(name) as Oid,
  }));
  return [...deletes, ...changes];
}

function conflicts(name: string, added: readonly string[]): boolean {
  return added.some((other) => other.startsWith(`${name}/`) || name.startsWith(`${other}/`));
}

/** Input of `git update-ref -z --stdin` as a byte string. */
export function updateRefInput(changes: readonly RefChange[]): string {
  return changes.map((change) => {
    if (change.kind === "delete") return `delete ${change.name}\0${change.from}\0`;
    const from = change.from ?? "0".repeat(change.to.length);
    return `update ${change.name}\0${change.to}\0${from}\0`;
  }).join("");
}

/** `<oid> <name>` lines, as in a packed-refs file, a byte string. What a tag peels to (`^`) is not a ref. */
export function parsePackedRefs(text: string): Refs {
  const refs = new Map<string, Oid>();
  for (const line of text.split("\n")) {
    const space = line.indexOf(" ");
    const value = line.slice(0, space);
    if (space > 0 && isOid(value)) refs.set(line.slice(space + 1), value);
  }
  return refs;
}

/** Text of a packed-refs file as byte string; without the `sorted` trait git sorts by itself. */
export function packedRefsText(refs: Refs): string {
  return [...refs].map(([name, value]) => `${value} ${name}\n`).join("");
}
