/**
 * The repository that both sides have: a few directories, every kind of entry, ignore files, and
 * branches that merge, that conflict, and in which a name is of another kind.
 */

import { git, gitBaseEnv, run } from "../support/run.ts";

/** Branches besides main. */
export const BRANCHES = ["topic", "conflict", "kinds", "old"] as const;
export const TAGS = ["v1", "v2"] as const;

const SCRIPT = String.raw`
set -eu
commit() { git add -A; git commit -qm "$1"; }
text() { i=0; while [ $i -lt "$2" ]; do echo "$1 line $i"; i=$((i + 1)); done; }

git init -q .
mkdir -p src/lib/deep/deeper src/app docs only "with space"
text readme 20 >README.md
printf '*.o\nbuild/\n/local\n!keep.o\n' >.gitignore
printf '*.tmp\n' >src/.gitignore
printf 'cache\n' >src/lib/.gitignore
printf '*.bin -diff\n*.union merge=union\n' >.gitattributes
for i in 1 2 3 4; do text "lib $i" 12 >src/lib/l$i.c; done
for i in 1 2 3; do text "deep $i" 6 >src/lib/deep/d$i.txt; done
text deeper 3 >src/lib/deep/deeper/x
text app 30 >src/app/main.c
printf '#!/bin/sh\necho run\n' >src/app/run.sh
chmod +x src/app/run.sh
text changes 8 >docs/log.union
text guide 15 >docs/guide.md
printf 'a\0b\0c' >docs/image.bin
: >docs/empty
ln -s README.md docs/link
ln -s ../src/lib docs/dirlink
ln -s nowhere dangling
text "a b" 4 >"with space/a b"
text umlaut 4 >"with space/$(printf 'h\303\274t')"
text quote 4 >'with space/q"q'
text one 5 >only/f
text object 2 >keep.o
head -c 1500000 /dev/zero | tr '\0' z >docs/big
commit "the first"
git tag v1
git branch old

text more 9 >>src/lib/l1.c
git mv src/lib/l2.c src/lib/l2_new.c
commit "more"
git tag -a -m "the second" v2

git checkout -qb topic
text topic 5 >src/app/topic.c
sed -i 's/line 25/topic 25/' src/app/main.c
text top 3 >>docs/log.union
git rm -q docs/empty
commit "topic one"
text topic 7 >src/lib/deep/topic.txt
chmod +x src/lib/l3.c
commit "topic two"

git checkout -q main
git checkout -qb conflict
sed -i 's/line 2$/conflict 2/' src/app/main.c README.md
git rm -q src/lib/deep/d1.txt
text fresh 4 >docs/fresh
commit "conflict one"
echo '*.log' >>.gitignore
text con 4 >src/lib/l4.c
commit "conflict two"

git checkout -q main
git checkout -qb kinds
rm src/lib/l3.c docs/link
mkdir src/lib/l3.c docs/link
text in 3 >src/lib/l3.c/inner
text in 3 >docs/link/inner
rm -r src/lib/deep
text was 3 >src/lib/deep
rm src/app/run.sh
ln -s main.c src/app/run.sh
commit "other kinds"

git checkout -q main
sed -i 's/line 2$/main 2/' src/app/main.c
text main 3 >>docs/log.union
text main 3 >docs/fresh
echo '/out' >>.gitignore
commit "main goes on"
sed -i 's/line 9/main 9/' README.md
commit "main goes further"
`;

/** A commit that somebody else pushes: the nth. */
const REMOTE_COMMIT = String.raw`
set -eu
n=$2
git clone -q "$1" .
echo "remote $n" >>docs/guide.md
echo "remote $n" >"src/remote$n"
[ $((n % 3)) -ne 0 ] || sed -i "s/line 1$/remote $n/" README.md
git add -A
git commit -qm "remote $n"
git push -q origin HEAD:main "HEAD:refs/heads/remote$n"
`;

async function inScratch(scratch: string, script: string, ...args: string[]): Promise<void> {
  await Deno.mkdir(scratch);
  await run("sh", ["-c", script, "sh", ...args], {
    cwd: scratch,
    clearEnv: true,
    env: {
      ...gitBaseEnv(),
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "init.defaultBranch",
      GIT_CONFIG_VALUE_0: "main",
    },
  });
}

/** Makes the bare repository at `path`; `scratch` is a name for a folder. */
export async function makeBase(path: string, scratch: string): Promise<void> {
  await inScratch(scratch, SCRIPT);
  await git(["clone", "-q", "--bare", scratch, path]);
  await Deno.remove(scratch, { recursive: true });
}

/** The remote's main gets a commit, the same one in every remote. */
export async function pushElsewhere(path: string, scratch: string, n: number): Promise<void> {
  await inScratch(scratch, REMOTE_COMMIT, path, String(n));
  await Deno.remove(scratch, { recursive: true });
}
