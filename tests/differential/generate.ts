/**
 * Random steps, each a line or a few of shell: what users, editors and agents do to a work tree,
 * and git commands. The same for the same seed and the same tree. A script may fail, on both sides
 * in the same way. `$OUT` is a folder outside the work tree.
 */

import { quote } from "../mount/harness.ts";
import type { Random } from "../support/git_objects.ts";
import { BRANCHES, TAGS } from "./base.ts";

/** What the plain side's work tree has; no .git. */
export interface Paths {
  /** All but directories. */
  readonly files: readonly string[];
  /** Without the root. */
  readonly directories: readonly string[];
}

export function pathsBelow(root: string): Paths {
  const files: string[] = [];
  const directories: string[] = [];
  const walk = (directory: string, prefix: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(directory)) {
      if (name === ".git") continue;
      (isDirectory ? directories : files).push(prefix + name);
      if (isDirectory) walk(`${directory}/${name}`, `${prefix}${name}/`);
    }
  };
  walk(root, "");
  return { files: files.sort(), directories: directories.sort() };
}

const NEW_NAMES = [
  "n0",
  "n1",
  "n2",
  "x.o",
  "y.tmp",
  "cache",
  "build",
  "local",
  "a b",
  "\u00fc",
  "out",
];
const PATTERNS = [
  "n0",
  "n1",
  "*.c",
  "!x.o",
  "/n2",
  "deep/",
  "*",
  "!*.md",
  "out/",
  "l*",
  "# nothing",
];
const BRANCH_NAMES = ["main", "main", ...BRANCHES, "b0", "b1"];

type Step = (pick: Pick) => string;

/** What a step is made of; every path is quoted. */
class Pick {
  readonly #random: Random;
  readonly #paths: Paths;

  constructor(random: Random, paths: Paths) {
    this.#random = random;
    this.#paths = paths;
  }

  of<T>(list: readonly T[]): T {
    return list[this.#random.below(list.length)] as T;
  }

  chance(oneIn: number): boolean {
    return this.#random.below(oneIn) === 0;
  }

  get #file(): string {
    return this.#paths.files.length === 0 ? "nothing" : this.of(this.#paths.files);
  }

  get #directory(): string {
    return this.#paths.directories.length === 0 ? "nowhere" : this.of(this.#paths.directories);
  }

  get file(): string {
    return quote(this.#file);
  }

  get directory(): string {
    return quote(this.#directory);
  }

  get any(): string {
    return this.chance(3) ? this.directory : this.file;
  }

  /** A name that may not be there, in a directory that is. */
  get fresh(): string {
    const name = this.of(NEW_NAMES);
    return quote(this.chance(3) ? name : `${this.#directory}/${name}`);
  }

  get pathspec(): string {
    return this.of([this.any, this.any, this.fresh, ".", "'*.c'", "src", "docs"]);
  }

  get word(): string {
    return `w${this.#random.below(1000)}`;
  }

  get branch(): string {
    return this.of(BRANCH_NAMES);
  }

  /** Anything that names a commit. */
  get commit(): string {
    const names = [
      "HEAD",
      "HEAD~1",
      "HEAD~2",
      "origin/main",
      ...TAGS,
      "main",
      "main~1",
      "stash@{0}",
    ];
    return this.of([...names, ...BRANCHES.map((name) => `origin/${name}`), "b0", "ORIG_HEAD"]);
  }
}

/**
 * Waits for the next second. Git as it is usually built compares whole seconds, so a change of
 * which only ctime tells is seen only if it is in another second than the last look. (In a plain
 * clone younger than that, git compares the content: everything there is new.)
 */
const TICK = 's=$(date +%s); while [ "$(date +%s)" = "$s" ]; do sleep 0.05; done; ';

/** Same size, same mtime: only ctime and the file monitor know. */
const SAME = (f: string) =>
  `${TICK}touch -r ${f} "$OUT/ref" && printf Z | dd of=${f} bs=1 seek=1 conv=notrunc status=none; ` +
  `touch -r "$OUT/ref" ${f}`;

/**
 * A second name, a change through it, and no second name any more: whether git writes a file anew
 * depends on its ctime, and with two names that would make a difference.
 */
const LINKED = (f: string, other: string, change: string) =>
  `a=${f}; b=${other}; ${TICK}ln "$a" "$b" && ${change}; git status --short; ` +
  `test -f "$b" && cp "$b" "$b.copy" && mv "$b.copy" "$b"`;

const EDITS: readonly Step[] = [
  (p) => `echo ${p.word} >>${p.file}`,
  (p) => `echo ${p.word} >>${p.file}; echo ${p.word} >>${p.file}`,
  (p) => SAME(p.file),
  (p) =>
    `${TICK}f=${p.file}; cp -p "$f" "$OUT/keep" && tr a-m n-z <"$OUT/keep" >"$OUT/other"; ` +
    `touch -r "$OUT/keep" "$OUT/other"; cp -p "$OUT/other" "$f"`,
  (p) =>
    `f=${p.file}; cp -p "$f" "$f.new" && printf Y | dd of="$f.new" bs=1 conv=notrunc ` +
    `status=none && touch -r "$f" "$f.new" && mv "$f.new" "$f"`,
  (p) => `: >${p.file}`,
  (p) => `truncate -s ${p.of([1, 7, 100, 5000])} ${p.file}`,
  (p) => `f=${p.file}; echo ${p.word} >"$f.tmp~" && mv "$f.tmp~" "$f"`,
  (p) => `chmod ${p.of(["+x", "-x", "600", "755"])} ${p.file}`,
  (p) => `touch ${p.any}`,
  (p) => `touch -d '2001-02-03 04:05:06 UTC' ${p.any}`,
  (p) => `ln -sfn ${p.of(["n0", "README.md", "..", "nowhere", "src/lib"])} ${p.any}`,
  (p) => `ln -s ${p.of(["n0", ".", "nowhere"])} ${p.fresh}`,
  (p) => LINKED(p.file, p.fresh, `echo ${p.word} >>"$b"`),
  (p) => LINKED(p.file, p.file, `echo ${p.word} >>"$a"`),
  (p) => `rm -f ${p.file}; ${LINKED(p.file, p.fresh, 'git add -A; echo more >>"$b"')}`,
  (p) => `f=${p.any}; rm -rf "$f" && mkdir "$f" && echo in >"$f/in"`,
  (p) => `f=${p.any}; rm -rf "$f" && echo ${p.word} >"$f"`,
  (p) => `f=${p.any}; rm -rf "$f" && ln -s README.md "$f"`,
  (p) => `rm -rf ${p.any}`,
  (p) => `rm -f ${p.file} ${p.file} ${p.file}`,
  (p) =>
    `d=${p.directory}; cp -a "$d" "$OUT/copy" && rm -rf "$d" && cp -a "$OUT/copy" "$d"; ` +
    `rm -rf "$OUT/copy"`,
  (p) => `mv -T ${p.any} ${p.fresh}`,
  (p) => `mv -T ${p.directory} ${p.fresh}`,
  (p) => `a=${p.any}; b=${p.fresh}; mv -T "$a" "$b" && mv -T "$b" "$a"`,
  (p) =>
    `a=${p.directory}; b=${p.directory}; mv -T "$a" swap && mv -T "$b" "$a" && mv -T swap "$b"`,
  (p) => `mv ${p.any} ${p.directory}/`,
  (p) => `mv -T ${p.file} ${p.file}`,
  // By way of another place: what cp makes of a copy into itself depends on the order of names.
  (p) => `cp -a ${p.any} "$OUT/copy" && cp -aT "$OUT/copy" ${p.fresh}; rm -rf "$OUT/copy"`,
  (p) => `mkdir -p ${p.fresh}/m/n && echo ${p.word} >${p.fresh}`,
  (p) => `d=${p.fresh}; mkdir -p "$d/m" && echo ${p.word} >"$d/m/u"`,
  (p) => `rmdir ${p.directory}`,
  (p) => `echo ${p.word} >${p.fresh}`,
  (p) => `echo ${p.word} >${p.fresh}`,
  (p) => `echo '${p.of(PATTERNS)}' >>${p.of([".gitignore", `${p.directory}/.gitignore`])}`,
  (p) => `echo '${p.of(PATTERNS)}' >${p.of([".gitignore", `${p.directory}/.gitignore`])}`,
  (p) => `rm -f ${p.of([".gitignore", `${p.directory}/.gitignore`])}`,
  (p) => `echo '${p.of(PATTERNS)}' >>"$(git rev-parse --git-path info/exclude)"`,
];

const LOOKS: readonly Step[] = [
  () => "git diff --stat",
  () => "git diff",
  (p) => `git diff ${p.commit} --stat`,
  () => "git diff --cached --stat",
  (p) => `cd ${p.directory} && git status --short`,
  (p) => `git -C ${p.directory} status --porcelain=v2`,
  (p) => `git status --porcelain -- ${p.pathspec}`,
  () => "git status --porcelain --ignored",
  () => "git status --porcelain -uno",
  () => "git ls-files -o --exclude-standard",
  () => "git ls-files -m -d",
  (p) => `git log --oneline -5 -- ${p.pathspec}`,
  (p) => `git blame -s ${p.file}`,
  () => "git grep -c line",
  (p) => `git check-ignore ${p.any} ${p.fresh}`,
  () => "git describe --dirty --always",
  (p) => `git show --stat ${p.commit}`,
  () => "git fsck --connectivity-only --no-dangling",
];

/**
 * Not among them, since git itself goes wrong with any file monitor (docs/git.md): a split index,
 * `mv -f` in a sparse checkout, `rm` of a submodule, status.showUntrackedFiles=all. And no
 * change of what is assumed unchanged.
 */
const STAGING: readonly Step[] = [
  () => "git add -A",
  () => "git add -A",
  () => "git add -u",
  (p) => `git add ${p.pathspec}`,
  (p) => `git add ${p.pathspec}`,
  (p) => `git add -f ${p.fresh} ${p.file}`,
  (p) => `git add -N ${p.fresh}`,
  (p) => `test -e .gitmodules || git rm -rq ${p.of(["", "-f ", "--cached "])}${p.any}`,
  (p) => `git mv ${p.any} ${p.fresh}`,
  (p) => `git reset -q -- ${p.pathspec}`,
  (p) => `git restore ${p.pathspec}`,
  (p) => `git restore --staged ${p.pathspec}`,
  (p) => `git restore -s ${p.commit} -SW ${p.pathspec}`,
  (p) => `git checkout ${p.of(["", `${p.commit} `])}-- ${p.pathspec}`,
  (p) =>
    `git update-index --${p.of(["chmod=+x", "chmod=-x"])} ` +
    p.file,
  () => "git update-index -q --refresh",
  () => "git update-index -q --really-refresh",
];

const COMMITS: readonly Step[] = [
  (p) => `git commit -qm ${p.word}`,
  (p) => `git commit -am ${p.word}`,
  (p) => `git add -A; git commit -qm ${p.word}`,
  (p) => `git commit -qm ${p.word} -- ${p.pathspec}`,
  (p) => `git commit -q --amend -m ${p.word}`,
  () => "git commit -q --amend --no-edit -a",
  (p) => `git commit -q --allow-empty -m ${p.word}`,
];

const MOVES: readonly Step[] = [
  (p) => `git checkout ${p.branch}`,
  (p) => `git switch ${p.branch}`,
  (p) => `git switch ${p.branch}`,
  (p) => `git checkout -f ${p.branch}`,
  (p) => `git checkout -m ${p.branch}`,
  (p) => `git checkout --detach ${p.commit}`,
  (p) => `git checkout -B ${p.of(["b0", "b1"])}`,
  (p) => `git switch -c ${p.of(["b0", "b1"])} ${p.commit}`,
  (p) => `git branch -f ${p.of(["b0", "b1"])} ${p.commit}`,
  () => "git switch -",
  // Another program on each side (world.ts); git says more on standard output.
  (p) => `sw ${p.branch} >/dev/null`,
  (p) => `sw ${p.branch} >/dev/null`,
  (p) => `sw ${p.branch} >/dev/null`,
  (p) => `sw ${p.commit} >/dev/null`,
  () => "sw - >/dev/null",
  (p) => `git reset --${p.of(["soft", "mixed", "hard", "hard", "keep", "merge"])} ${p.commit}`,
  () => "git reset --hard",
  () => "git reset",
];

const JOINS: readonly Step[] = [
  (p) =>
    `git merge ${p.of(["", "--no-ff ", "--squash ", "--no-commit ", "--ff-only "])}${p.commit}`,
  (p) => `git merge ${p.branch}`,
  (p) => `git merge -X ${p.of(["ours", "theirs"])} ${p.commit}`,
  () => "git merge --abort",
  () => "git merge --continue",
  (p) => `git rebase ${p.commit}`,
  (p) => `git rebase --onto ${p.commit} HEAD~1`,
  (p) =>
    `GIT_SEQUENCE_EDITOR='sed -i "1!s/^pick/${p.of(["squash", "fixup", "drop", "reword"])}/"' ` +
    "git rebase -i HEAD~2",
  (p) => `git rebase --autostash ${p.commit}`,
  () => "git rebase --abort",
  () => "git add -A; git rebase --continue",
  () => "git rebase --skip",
  (p) => `git cherry-pick ${p.of(["", "-n ", "-x "])}${p.commit}`,
  (p) => `git cherry-pick --${p.of(["abort", "quit", "skip"])}`,
  () => "git add -A; git cherry-pick --continue",
  (p) => `git revert --no-edit ${p.of(["", "-n "])}${p.commit}`,
  (p) => `git revert --${p.of(["abort", "quit"])}`,
  (p) =>
    `git format-patch -q --stdout -1 ${p.commit} >"$OUT/patch"; git am ${
      p.of(["", "-3 "])
    }"$OUT/patch"`,
  () => "git am --abort",
  () => 'git diff >"$OUT/diff"; git stash -q; git apply "$OUT/diff"; git stash drop -q',
  () => 'git diff --binary HEAD >"$OUT/diff"; git reset -q --hard; git apply --index "$OUT/diff"',
  () => 'git diff --binary >"$OUT/diff"; git apply -R "$OUT/diff"',
  () => "git read-tree -m -u HEAD",
];

const STASHES: readonly Step[] = [
  (p) => `git stash push ${p.of(["", "-u", "-a", "-k", "--staged"])}`,
  (p) => `git stash push -m ${p.word} -- ${p.pathspec}`,
  () => "git stash pop",
  () => "git stash pop",
  () => "git stash pop --index",
  () => "git stash apply",
  () => "git stash drop",
];

const CLEANS: readonly Step[] = [
  // It tells names in the order in which a directory has them.
  () => "git clean -fdx | sort",
  () => "git clean -fd | sort",
  (p) => `git clean -fdX ${p.directory} | sort`,
  () => "git clean -ndx | sort",
];

const REMOTES: readonly Step[] = [
  () => "git fetch -q",
  () => "git fetch -q --prune",
  () => "git pull -q --ff-only",
  () => "git pull -q --rebase",
  () => "git fetch -q && git merge origin/main",
  () => "git push -q origin HEAD:main",
  () => "git push -q -f origin HEAD:refs/heads/b0",
];

/** A file whose size git does not know stays where it is (docs/git.md). */
const SIZES = "git -c core.fsmonitor=false update-index -q --refresh; ";

const OTHERS: readonly Step[] = [
  (p) => `git tag ${p.of(["t0", "t1"])} ${p.commit}`,
  (p) => `git notes add -f -m ${p.word} ${p.commit}`,
  () => "git gc -q",
  () => "git repack -adq",
  () => "git pack-refs --all",
  () => "git prune --expire=now",
  (p) => `git worktree add -f --detach "$OUT/wt" ${p.commit} && git -C "$OUT/wt" status`,
  (p) => `cd "$OUT/wt" && echo ${p.word} >>README.md && git status --short && git commit -qam wt`,
  () => 'git worktree remove --force "$OUT/wt"',
  (p) =>
    `${SIZES}git sparse-checkout set ${p.of(["", "--no-cone ", "--sparse-index "])}${
      p.of(["src", "docs", "src/lib", "only docs"])
    }`,
  () => "git sparse-checkout disable",
  () => `${SIZES}git sparse-checkout reapply`,
  (p) => `git submodule --quiet add --force "$SUB" ${p.of(["sub", "src/sub"])}`,
  () => "for s in sub src/sub; do test -d $s && echo x >>$s/f; done",
  () => "git submodule --quiet update --init",
  () => "git submodule --quiet deinit -f --all",
  () => 'rm -f "$(git rev-parse --git-path index)"; git reset -q',
  (p) => `git update-index --index-version ${p.of([2, 4])}`,
  () => "git read-tree HEAD",
];

/** How often each list is drawn from. */
const LISTS: readonly (readonly [readonly Step[], number])[] = [
  [EDITS, 40],
  [LOOKS, 6],
  [STAGING, 14],
  [COMMITS, 9],
  [MOVES, 9],
  [JOINS, 9],
  [STASHES, 6],
  [CLEANS, 2],
  [REMOTES, 4],
  [OTHERS, 5],
];
const WEIGHT = LISTS.reduce((sum, [, weight]) => sum + weight, 0);

export function nextScript(random: Random, paths: Paths): string {
  let at = random.below(WEIGHT);
  for (const [list, weight] of LISTS) {
    if ((at -= weight) >= 0) continue;
    const pick = new Pick(random, paths);
    return pick.of(list)(pick);
  }
  throw new Error("no list");
}
