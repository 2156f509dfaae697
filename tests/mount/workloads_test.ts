/** Real work in a mount, and the same in a clone on local disk: the same output, the same tree. */

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { run, withTempDir } from "../support/run.ts";
import { commitFiles, inPlace, makePlaces, same } from "../workloads/places.ts";
import {
  cargoProject,
  cOutput,
  cProject,
  dependentsOf,
  type Files,
  goProject,
  npmProject,
} from "../workloads/projects.ts";
import { fixture, mountTest } from "./harness.ts";

const SQLITE_MAIN = new URL("../workloads/sqlite_main.ts", import.meta.url).pathname;

const repository = fixture(async (path) => {
  const files: Files = new Map([
    ...cProject("c"),
    ...npmProject("npm"),
    ...cargoProject("cargo"),
    ...goProject("go"),
    ["run.sh", "#!/bin/sh\necho ran\n"],
    ["text/config.ini", "name = old\nvalue = 1\n"],
    ["text/long.txt", Array.from({ length: 2000 }, (_, i) => `line ${i}\n`).join("")],
    [".gitignore", "/out/\n*.o\n"],
  ]);
  await commitFiles(path, files);
  return path;
});

/** Why a test cannot run; null: all of these are installed. */
async function without(...tools: string[]): Promise<string | null> {
  for (const tool of tools) {
    // A manager of versions has a program of that name that only says that it has none.
    const asked = tool === "go" ? "version" : "--version";
    const script = 'command -v "$1" && "$1" "$2"';
    const { code } = await run("sh", ["-c", script, "sh", tool, asked], { okCodes: "any" });
    if (code !== 0) return `there is no ${tool} that runs`;
  }
  return null;
}

mountTest("workloads: git clone into the mount, fsck, a commit and gc there", async (lab) => {
  const gitDir = await repository();
  const places = await makePlaces(lab, gitDir);
  const output = await same(
    lab,
    places,
    `mkdir -p out
    git clone -q 'file://${gitDir}' out/clone
    cd out/clone
    git fsck --strict --no-progress
    sed -i 's/old/new/' text/config.ini
    rm run.sh; mv text/long.txt renamed.txt
    git add -A
    git commit -q -m 'Change some'
    git gc -q
    git fsck --strict --no-progress
    git log --format='%H %s' --stat --no-color
    git status --porcelain
    git stash list
    git checkout -q HEAD~1
    git switch -q -
    git worktree add -q ../second HEAD~1
    git -C ../second status --porcelain -b`,
    // Packs are written by several threads, and an index holds times.
    { ignore: "out/clone/\\.git/|out/second/\\.git" },
  );
  assert.match(output, /^[0-9a-f]{40} Change some$/m);
});

mountTest("workloads: tar out and in again, with every kind of file", async (lab) => {
  const places = await makePlaces(lab, await repository());
  const output = await same(
    lab,
    places,
    `mkdir -p out/from/deep
    cp -r c text run.sh out/from/
    ln out/from/run.sh out/from/deep/linked.sh
    ln -s ../run.sh out/from/deep/link
    ln -s nowhere out/from/dangling
    mkfifo out/from/fifo
    truncate -s 3M out/from/sparse; printf x | dd of=out/from/sparse bs=1 seek=2M conv=notrunc status=none
    chmod 4755 out/from/run.sh; chmod 1777 out/from/deep; chmod 000 out/from/text/config.ini
    chown 1234:5678 out/from/text/long.txt
    long=$(printf 'n%.0s' $(seq 255)); : >"out/from/$long"
    find out/from -exec touch -h -d '2020-01-02 03:04:05.678901234' {} +
    flags='--sort=name --numeric-owner --format=pax'
    pax=--pax-option=delete=atime,delete=ctime,exthdr.name=%d/Pax/%f
    tar -c $flags $pax -f out/first.tar -C out/from .
    mkdir out/to; tar -xp -f out/first.tar -C out/to
    tar -d -f out/first.tar -C out/to
    tar -c $flags $pax -f out/second.tar -C out/to .
    cmp out/first.tar out/second.tar && echo same
    tar -c --sparse -f out/sparse.tar -C out/from sparse; mkdir out/holes
    tar -x -f out/sparse.tar -C out/holes; cmp out/from/sparse out/holes/sparse && echo holes
    # And what the commit has, straight through a pipe.
    mkdir out/piped; tar -c c npm | tar -x -C out/piped
    diff -r c out/piped/c && diff -r npm out/piped/npm && echo piped`,
  );
  assert.equal(output, "same\nholes\npiped\n");
});

mountTest("workloads: cp -a keeps links, modes, owners and times", async (lab) => {
  const places = await makePlaces(lab, await repository());
  const output = await same(
    lab,
    places,
    `mkdir out
    cp -a c out/c; cp -a out/c out/c2; diff -r c out/c2
    mkdir out/d; echo 1 >out/d/a; ln out/d/a out/d/b; ln -s a out/d/l
    chmod 751 out/d; chown 12:34 out/d/a; chown -h 56:78 out/d/l
    touch -h -d '1999-12-31 23:59:59.123456789' out/d/l out/d/a out/d
    cp -a out/d out/e
    for dir in out/d out/e; do
      (cd $dir && find . -printf '%P %y %m %n %s %U %G %T@ %l\\n' | sed 's/^ d \\(.*\\) 4096 / d \\1 0 /' |
        awk '{ if ($2 == "d" || $1 == "d") $5 = $4 = "-"; print }' | sort)
    done >out/both
    lines=$(wc -l <out/both); half=$((lines / 2))
    head -n $half out/both >out/one; tail -n $half out/both >out/two
    cmp out/one out/two && echo same
    cp --sparse=always text/long.txt out/sparse; cmp text/long.txt out/sparse
    cp --reflink=auto text/long.txt out/reflink; cmp text/long.txt out/reflink`,
    { ignore: "out/(both|one|two)" },
  );
  assert.equal(output, "same\n");
});

mountTest("workloads: rsync, and a second one has nothing to do", async (lab) => {
  const places = await makePlaces(lab, await repository());
  const output = await same(
    lab,
    places,
    `mkdir out; ln text/long.txt out/linked
    rsync -aH c npm text out/linked out/copy/
    rsync -aH --itemize-changes c npm text out/linked out/copy/
    echo changed >>text/config.ini
    rsync -aH --itemize-changes --inplace c npm text out/copy/ | cut -c 1-4
    rsync -a --delete --checksum text/ out/copy/
    diff -r text out/copy && echo same`,
  );
  assert.match(output, /^>f\.s\nsame\n$/);
}, { skip: await without("rsync") });

mountTest("workloads: make -j4, and after a change exactly what depends on it", async (lab) => {
  const places = await makePlaces(lab, await repository());
  const output = await same(lab, places, "cd c; make -j4 >/dev/null; ./program; make -j4");
  assert.equal(output, `${cOutput()}make: 'program' is up to date.\n`);
  for (const header of [0, 7]) {
    const rebuilt = await same(
      lab,
      places,
      `cd c; touch include/h_${header}.h; make -j4 | sed -n 's/.* -o \\(obj[^ ]*\\).*/\\1/p' | sort`,
    );
    assert.equal(rebuilt, dependentsOf(header).join("\n") + "\n");
  }
  const changed = await same(
    lab,
    places,
    `cd c; sed -i 's/x + 5/x + 6/' include/h_5.h; make -j4 >/dev/null; ./program; git diff --stat`,
  );
  assert.match(changed, /h_5\.h \| 2/);
  await same(lab, places, "cd c; make clean >/dev/null; ls; make -j4 >/dev/null; ./program");
}, { skip: await without("make", "cc", "ar") });

mountTest("workloads: editors' ways to save, on files of the commit", async (lab) => {
  const places = await makePlaces(lab, await repository());
  await same(
    lab,
    places,
    `cd text
    # A new file in the old one's place.
    sed 's/old/new/' config.ini >.config.tmp; sync .config.tmp; chmod --reference=config.ini .config.tmp
    mv .config.tmp config.ini; sync .
    # A backup by link, then a new file.
    ln long.txt long.txt~; echo saved >long.new; sync long.new; mv long.new long.txt
    wc -l long.txt long.txt~
    # A backup by rename, then writing under the old name.
    mv ../run.sh ../run.sh~; cat ../run.sh~ >../run.sh; echo 'echo more' >>../run.sh
    chmod --reference=../run.sh~ ../run.sh; ../run.sh
    # In place, with a copy kept.
    cp -p config.ini config.ini.bak; printf 'longer content\\n' >config.ini; truncate -s 7 config.ini
    cat config.ini config.ini.bak; sed -i.orig 's/1/2/' config.ini.bak; cat config.ini.bak
    # A swap file beside it, and one in a directory that goes again.
    : >.config.swp; mkdir .backup; cp long.txt .backup/; rm -r .backup .config.swp
    # Lock by link.
    echo 1 >.lock.1; ln .lock.1 .lock; ! ln .lock.1 .lock 2>/dev/null; rm .lock .lock.1
    git diff --stat --no-color; git checkout -q -- .; git status --porcelain`,
  );
});

for (const journal of ["wal", "delete"]) {
  mountTest(`workloads: SQLite, journal ${journal}, two writers and a killed one`, async (lab) => {
    const places = await makePlaces(lab, await repository());
    await withTempDir(async (dir) => {
      const db = new DatabaseSync(dir.at("new.db"));
      db.exec("CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0)");
      db.exec("CREATE TABLE log (pid INTEGER, n INTEGER UNIQUE, padding BLOB)");
      db.close();
      const work = `cp '${dir.at("new.db")}' count.db
        add() { exec '${Deno.execPath()}' run -A --no-check --quiet '${SQLITE_MAIN}' count.db "$@"; }
        add ${journal} 1000000 >/dev/null 2>&1 & victim=$!
        add ${journal} 100 >one & one=$!
        add ${journal} 100 >two & two=$!
        wait $one; wait $two
        kill -9 $victim; wait $victim 2>/dev/null || true
        (add ${journal} 1) >last
        cat one two last`;
      const seen = { mode: journal, wentBack: 0, check: "ok" };
      for (const tree of [places.local, places.mount]) {
        const { stdout } = await inPlace(lab, places, tree, work);
        const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
        assert.deepEqual(lines, [seen, seen, seen], tree);
        const copy = `cp count.db* '${dir.path}/'`;
        await inPlace(lab, places, tree, copy);
        const after = new DatabaseSync(dir.at("count.db"));
        const row = after.prepare(
          "SELECT n, (SELECT count(*) FROM log) AS logged, (SELECT max(n) FROM log) AS last FROM counter",
        ).get();
        after.close();
        assert.ok(Number(row?.["n"]) >= 201, JSON.stringify(row));
        assert.deepEqual([row?.["logged"], row?.["last"]], [row?.["n"], row?.["n"]]);
        await run("sh", ["-c", 'rm -f "$1"/count.db*', "sh", dir.path]);
      }
    });
  });
}

mountTest("workloads: npm install of local packages, and npm ci", async (lab) => {
  const places = await makePlaces(lab, await repository());
  const flags = "--offline --no-audit --no-fund --no-update-notifier --loglevel=error";
  const output = await same(
    lab,
    places,
    `cd npm
    npm install ${flags} >/dev/null; node index.js; node_modules/.bin/part-3
    rm -rf node_modules; npm ci ${flags} >/dev/null; node index.js
    npm install ${flags} --install-links >/dev/null; node index.js`,
  );
  assert.match(output, /^540\npart-3\n540\n540\n$/);
}, { skip: await without("npm", "node") });

mountTest("workloads: cargo build of a workspace, and again after a change", async (lab) => {
  const places = await makePlaces(lab, await repository());
  const output = await same(
    lab,
    places,
    `cd cargo; export CARGO_HOME="$PWD/../out/cargo" CARGO_INCREMENTAL=0
    cargo build -q --offline; target/debug/program
    sed -i 's/1 + lib3/10 + lib3/' lib4/src/lib.rs
    cargo build -q --offline; target/debug/program
    cargo build --offline 2>&1 | grep -c Compiling || true`,
    // Times, and what the linker was told in a temporary folder's name.
    { ignore: "cargo/target/debug/(\\.fingerprint|incremental|build)/|out/cargo|\\.rustc_info" },
  );
  assert.equal(output, "6\n15\n0\n");
}, { skip: await without("cargo", "cc") });

mountTest("workloads: go build of a module, and again after a change", async (lab) => {
  const places = await makePlaces(lab, await repository());
  const output = await same(
    lab,
    places,
    `cd go; export GOFLAGS=-buildvcs=false GOTOOLCHAIN=local GOPROXY=off
    go build -o ../out/program . ; ../out/program 2>&1
    sed -i 's/return 9/return 19/' part9/part9.go
    go build -o ../out/program . ; ../out/program 2>&1; go vet ./...`,
  );
  assert.equal(output, "45\n55\n");
}, { skip: await without("go") });
