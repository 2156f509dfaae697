/**
 * Files that a checkout would convert: a mount against a plain clone with the same configuration.
 * Bytes, sizes and modes are equal, both are clean, and the same work in both makes the same trees.
 */

import assert from "node:assert/strict";
import { waitFor } from "../support/run.ts";
import { type Daemon, Lab, labTest, type RepoStatusJson } from "./harness.ts";

const IDENTITY = {
  GIT_AUTHOR_NAME: "A",
  GIT_AUTHOR_EMAIL: "a@example.com",
  GIT_COMMITTER_NAME: "A",
  GIT_COMMITTER_EMAIL: "a@example.com",
  GIT_AUTHOR_DATE: "1700000000 +0000",
  GIT_COMMITTER_DATE: "1700000000 +0000",
};

const ATTRIBUTES = `*.crlf text eol=crlf
*.auto text=auto eol=crlf
*.lf text eol=lf
*.id ident
*.u16 text working-tree-encoding=UTF-16LE-BOM eol=crlf
*.latin1 text working-tree-encoding=ISO-8859-1
*.up filter=up
*.path filter=path eol=crlf ident
*.evil filter=evil
*.lfs filter=lfs -text
*.bin -text
all/* text eol=crlf ident
`;

const LFS_TOLD = "LFS files are shown as pointers: git lfs is not installed for the owner";

/** Everything in it that a driver or a configuration of the tree could make run. */
const TREE = `
printf '%s' "$1" >.gitattributes
mkdir -p a/deep/er all b 'sp ace'
printf 'one\\ntwo\\n' >a/x.crlf
printf 'one\\ntwo\\n' >a/deep/er/x.crlf
printf 'one\\ntwo\\n' >a/x.auto
printf 'one\\0two\\n' >a/binary.auto
printf 'one\\ntwo\\n' >a/x.lf
printf '$Id$\\nnone\\n' >a/x.id
printf 'caf\\303\\251\\nb\\n' >b/x.u16
printf 'caf\\303\\251\\nb\\n' >b/x.latin1
printf 'lower case\\n' >b/x.up
printf 'more\\n' >'sp ace/it is "x.up'
printf '$Id$ lower\\n' >'sp ace/x.path'
printf 'wolf\\n' >b/x.evil
printf 'a\\n\\nb\\n' >b/x.bin
printf 'plain\\ntext\\n' >b/plain
printf '' >b/empty.crlf
for i in 1 2 3 4 5 6 7 8 9; do printf "$i \\$Id\\$\\n" >all/$i; done
chmod +x all/3
ln -s x.crlf a/link.crlf
printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:91f6db1f78d9a5b759a6080e1294c6792d7e6ad48db0831f649b7e8d455dcab6\\nsize 5\\n' >b/x.lfs
printf '[filter "evil"]\\nsmudge = touch %s; cat\\n' "$2" >.gitconfig
cp .gitconfig .gitmodules.not
printf '[lfs]\\nurl = http://127.0.0.1:9/\\n' >.lfsconfig
`;

/** What a checkout writes and git would not store so: whether it is clean is a matter of time. */
const NOT_NORMAL = `
printf 'one\\r\\ntwo\\n' >a/mixed.crlf
printf 'one\\r\\ntwo\\n' >a/mixed.auto
printf '$Id: old $\\n' >a/old.id
printf 'UPPER\\n' >a/UPPER.up
`;

/** Writes them without any conversion. */
async function makeRemote(
  lab: ConversionLab,
  attributes = ATTRIBUTES,
  more = "",
): Promise<string> {
  const work = lab.at("work");
  const remote = lab.at("remotes", "repo.git");
  await lab.sh(
    `git init -q -b main "$1"; cd "$1"; shift
    ${TREE}${more}
    mv .gitattributes ../attributes
    git add -A; mv ../attributes .gitattributes
    git update-index --add --cacheinfo "100644,$(git hash-object -w .gitattributes),.gitattributes"
    git commit -q -m one; git clone -q --bare . "$3"
    git -C "$3" config uploadpack.allowFilter true
    git -C "$3" config uploadpack.allowAnySHA1InWant true`,
    [work, attributes, lab.at("evil-ran"), remote],
    { env: { ...IDENTITY, GIT_CONFIG_GLOBAL: "/dev/null" } },
  );
  return remote;
}

interface Status extends RepoStatusJson {
  readonly overlayDirty: boolean;
}

class ConversionLab extends Lab {
  daemon: Daemon | null = null;
  mountPoint = "";
  clone = "";

  /** Global configuration of the user that everything runs as. */
  async configure(text: string): Promise<void> {
    await Deno.writeTextFile(
      this.at("home", ".gitconfig"),
      `[protocol "file"]\nallow=always\n${text}`,
    );
  }

  async mountAndClone(...flags: string[]): Promise<void> {
    const url = this.serve({ allowPush: true }).url("repo");
    this.daemon = await this.startDaemon();
    this.mountPoint = await this.mount(url, "repo", "--wait=history", ...flags);
    this.clone = this.at("clone");
    // Git reads again what is as new as its index.
    await this.sh(
      'git clone -q "$1" "$2"; sleep 1.1; git -C "$2" update-index --force-write-index',
      [
        url,
        this.clone,
      ],
    );
  }

  /** The same in both; what it prints must be the same. */
  async both(script: string): Promise<string> {
    const run = async (dir: string) =>
      (await this.sh(`cd "$1"; ${script}`, [dir], { env: IDENTITY })).stdout;
    const expected = await run(this.clone);
    assert.equal(await run(this.mountPoint), expected, script);
    return expected;
  }

  async inMount(script: string): Promise<string> {
    return (await this.sh(`cd "$1"; ${script}`, [this.mountPoint], { env: IDENTITY })).stdout;
  }

  /** Kinds, modes, sizes and bytes of everything; sizes first, as nothing has been read. */
  async same(): Promise<void> {
    await this.both(
      "find . -path ./.git -prune -o -printf '%p %y %m %s %l\\n' | sed 's/ 4096 / /;s/^\\(.* d [0-9]*\\) [0-9]* /\\1 /' | sort",
    );
    await this.both("find . -path ./.git -prune -o -type f -exec sha256sum {} + | sort -k 2");
    assert.deepEqual(
      await Array.fromAsync(Deno.readDir(this.dir.path), ({ name }) => name)
        .then((names) => names.filter((name) => name === "evil-ran")),
      [],
    );
  }

  async clean(): Promise<void> {
    assert.equal(await this.both("git status --porcelain"), "");
  }

  async dirty(): Promise<boolean> {
    return (await this.statusOf("repo") as Status).overlayDirty;
  }

  async remountAndRestart(): Promise<void> {
    await this.dropCaches();
    await this.same();
    await this.afs(["remount", this.mountPoint]);
    await this.same();
    await this.endDaemon();
    this.daemon = await this.startDaemon();
    await this.same();
    await this.endDaemon("SIGKILL");
    this.daemon = await this.startDaemon();
    await this.same();
  }
}

function conversionTest(name: string, body: (lab: ConversionLab) => Promise<void>): void {
  labTest(`conversion: ${name}`, ConversionLab, body);
}

const DRIVERS = `[filter "up"]
	smudge = tr a-z A-Z
	clean = tr A-Z a-z
	required = true
[filter "path"]
	smudge = "sed s,lower,%f,"
	clean = "sed s,sp.ace/x.path,lower,"
`;

conversionTest("every kind, in a mount and in a clone", async (lab) => {
  await lab.configure(DRIVERS);
  await makeRemote(lab);
  await lab.mountAndClone();
  await lab.same();
  assert.equal(await lab.inMount("cat b/x.up"), "LOWER CASE\n");
  assert.equal(await lab.inMount("od -An -c a/x.crlf | tr -d ' \\n'"), "one\\r\\ntwo\\r\\n");
  await lab.clean();
  assert.equal(await lab.dirty(), false);
  const told = await lab.daemon?.logged(LFS_TOLD);
  assert.equal(told?.length, 1);
  await lab.remountAndRestart();
  await lab.clean();
});

conversionTest("what git would not store so is shown as a checkout writes it", async (lab) => {
  await lab.configure(DRIVERS);
  await makeRemote(lab, ATTRIBUTES, NOT_NORMAL);
  await lab.mountAndClone();
  await lab.same();
  await lab.remountAndRestart();
});

conversionTest("text=auto by the owner's core.autocrlf", async (lab) => {
  await lab.configure("[core]\nautocrlf = true\n");
  await makeRemote(lab, "*.bin -text\n*.lf eol=lf\n");
  await lab.mountAndClone();
  await lab.same();
  assert.equal(await lab.inMount("od -An -c b/plain | tr -d ' \\n'"), "plain\\r\\ntext\\r\\n");
  await lab.clean();
  await lab.remountAndRestart();
});

conversionTest("no attributes at all, and core.eol of the owner", async (lab) => {
  await lab.configure("[core]\neol = crlf\nattributesFile = ~/attributes\n");
  await Deno.writeTextFile(lab.at("home", "attributes"), "plain text\n*.up text=auto\n");
  await makeRemote(lab, "");
  await lab.mountAndClone();
  await lab.same();
  assert.equal(await lab.inMount("od -An -c b/plain | tr -d ' \\n'"), "plain\\r\\ntext\\r\\n");
  await lab.clean();
});

conversionTest("edits and commits make the same trees, and are no change any more", async (lab) => {
  // What a driver makes is a change still, after a commit: the next test has them.
  await lab.configure("");
  await makeRemote(lab);
  await lab.mountAndClone();
  await lab.both(`printf 'three\\r\\n' >>a/x.crlf
    printf 'new\\r\\nfile\\r\\n' >a/new.crlf
    printf 'MORE\\n' >>b/x.up
    sed -i s/two/zwei/ a/x.auto
    printf 'p\\351ch\\351\\n' >>b/x.latin1
    printf '$Id$ sp ace/x.path more\\r\\n' >'sp ace/x.path'
    git add -A; git commit -q -m two; git rev-parse HEAD^{tree}`);
  await lab.same();
  await lab.clean();
  assert.equal(
    await lab.dirty(),
    true,
    "an ident that was not expanded is not what a checkout writes",
  );
  await lab.both(`rm 'sp ace/x.path'; git checkout -q 'sp ace/x.path'; git status --porcelain`);
  assert.equal(await lab.dirty(), false);
  await lab.both(
    "mv a renamed; mv b/x.u16 all/; git add -A; git commit -q -m three; git rev-parse HEAD^{tree}",
  );
  await lab.same();
  await lab.clean();
  assert.equal(await lab.dirty(), false);
  await lab.both("git checkout -q HEAD~2; git status --porcelain");
  await lab.same();
  assert.equal(await lab.dirty(), false);
  await lab.both("git checkout -q main; git status --porcelain");
  await lab.same();
  assert.equal(await lab.dirty(), false);
  await lab.remountAndRestart();
});

conversionTest("edits and commits of files with drivers make the same trees", async (lab) => {
  await lab.configure(DRIVERS);
  await makeRemote(lab);
  await lab.mountAndClone();
  await lab.both(
    `printf 'MORE\\n' >>b/x.up; printf 'NEW\\n' >a/new.up; cp b/x.up all/; mv b/plain b/p.up
    printf '$Id$ sp ace/x.path more\\r\\n' >'sp ace/x.path'
    git add -A; git commit -q -m two; git rev-parse HEAD^{tree}`,
  );
  await lab.same();
  await lab.clean();
  await lab.both("git checkout -q HEAD~1; git status --porcelain; git checkout -q main");
  await lab.same();
  await lab.clean();
  await lab.remountAndRestart();
});

conversionTest("a directory that is moved keeps its bytes", async (lab) => {
  await lab.configure(DRIVERS);
  await makeRemote(lab);
  await lab.mountAndClone();
  // Before anything was looked at, and under a name with other attributes.
  await lab.both("mv all moved; mv a/x.crlf plain; mv 'sp ace/x.path' b/");
  await lab.same();
  await lab.both("git status --porcelain | sort");
  await lab.remountAndRestart();
});

conversionTest("a commit that changes only .gitattributes changes no byte", async (lab) => {
  await lab.configure(DRIVERS);
  await makeRemote(lab);
  await lab.mountAndClone();
  for (
    const attributes of ["*.crlf -text\n*.lf text eol=crlf\nplain filter=up\n", "", ATTRIBUTES]
  ) {
    await lab.both(`printf '%s' '${attributes}' >.gitattributes
      git add .gitattributes; git commit -q -m attributes; git rev-parse HEAD^{tree}`);
    await lab.inMount("git status --porcelain");
    await lab.dirty();
    await lab.same();
    await lab.clean();
    await lab.dropCaches();
    await lab.same();
    assert.deepEqual(await lab.daemon?.logged("Base does not follow HEAD"), []);
  }
  await lab.remountAndRestart();
  assert.equal(await lab.dirty(), false);
});

conversionTest("an attribute that comes later converts what is checked out then", async (lab) => {
  await lab.configure("");
  await makeRemote(lab, "");
  await lab.mountAndClone();
  await lab.both(`printf '*.crlf text eol=crlf\\n' >.gitattributes
    git add .gitattributes; git commit -q -m attributes; git status --porcelain`);
  await lab.dirty();
  await lab.both("rm a/x.crlf; git checkout -q a/x.crlf; git status --porcelain");
  await lab.same();
  assert.equal(await lab.dirty(), false);
  await lab.remountAndRestart();
});

/** A driver that keeps contents below the home folder, and asks for them as git-lfs does. */
const FAKE_LFS = `#!/bin/sh
store=$HOME/lfs
mkdir -p "$store"
case $1 in
clean) t=$(mktemp); cat >"$t"; h=$(sha256sum <"$t" | cut -c 1-64); cp "$t" "$store/$h"
  printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%s\\nsize %s\\n' "$h" "$(stat -c %s "$t")"
  rm "$t" ;;
smudge) echo "$2 $(id -u)" >>"$store/log"; exec cat "$store/$(sed -n 's/^oid sha256://p')" ;;
esac
`;

conversionTest("LFS: contents by the driver that is configured", async (lab) => {
  const driver = lab.at("fake-lfs");
  await Deno.writeTextFile(driver, FAKE_LFS, { mode: 0o755 });
  await lab.configure(
    `[filter "lfs"]\nclean = ${driver} clean %f\nsmudge = ${driver} smudge %f\nrequired = true\n`,
  );
  await makeRemote(lab);
  await Deno.mkdir(lab.at("home", "lfs"));
  const content = lab.at(
    "home",
    "lfs",
    "91f6db1f78d9a5b759a6080e1294c6792d7e6ad48db0831f649b7e8d455dcab6",
  );
  await Deno.writeTextFile(content, "real!");
  await lab.mountAndClone();
  await lab.same();
  assert.equal(await lab.inMount("cat b/x.lfs; stat -c %s b/x.lfs"), "real!5\n");
  await lab.clean();
  await lab.both(`printf more >>b/x.lfs; printf new >b/y.lfs; git add -A; git commit -q -m two
    git rev-parse HEAD^{tree}`);
  await lab.same();
  await lab.clean();
  assert.equal(await lab.dirty(), true, "what was written stays in the overlay");
  await lab.remountAndRestart();
  const log = await Deno.readTextFile(lab.at("home", "lfs", "log"));
  assert.ok(log.split("\n").includes("b/x.lfs 0"), log);
});

conversionTest("a driver that fails gives EIO, and its file when it works again", async (lab) => {
  const flag = lab.at("home", "works");
  await lab.configure(
    `[filter "up"]\nclean = tr A-Z a-z\nsmudge = test -e ${flag} && tr a-z A-Z\nrequired = true\n`,
  );
  await makeRemote(lab);
  await Deno.writeTextFile(flag, "");
  await lab.mountAndClone();
  await Deno.remove(flag);
  const failed = await lab.sh(`cat "$1/b/x.up" 2>&1`, [lab.mountPoint], { okCodes: "any" });
  assert.match(failed.stdout, /Input\/output error/);
  assert.equal(
    await lab.inMount("cat b/plain; od -An -c a/x.crlf | tr -d ' \\n'"),
    "plain\ntext\none\\r\\ntwo\\r\\n",
  );
  assert.ok((await lab.daemon?.logged("Cannot convert"))?.length);
  await Deno.writeTextFile(flag, "");
  await waitFor(
    async () =>
      (await lab.sh(`cat "$1/b/x.up"`, [lab.mountPoint], { okCodes: "any" })).stdout ===
        "LOWER CASE\n",
    "the driver's content",
  );
  await lab.same();
});

conversionTest("another owner's drivers run with that owner's rights", async (lab) => {
  await lab.configure("");
  await makeRemote(lab);
  await lab.sh('chmod 755 "$1"; mkdir -m 777 "$1/open"', [lab.dir.path]);
  const log = lab.at("open", "log");
  // What the daemon's own user has configured is not the owner's.
  await lab.configure(`[filter "evil"]\nsmudge = touch ${lab.at("evil-ran")}\n`);
  await Deno.writeTextFile(
    lab.at("system"),
    `[filter "up"]\nsmudge = "id -u >>${log}; tr a-z A-Z"\nclean = "id -u >>${log}; tr A-Z a-z"\n`,
  );
  delete lab.env["GIT_CONFIG_NOSYSTEM"];
  lab.env["GIT_CONFIG_SYSTEM"] = lab.at("system");
  const url = lab.serve({ allowPush: true }).url("repo");
  lab.daemon = await lab.startDaemon();
  const flags = ["--wait=history", "--uid", "12345", "--gid", "12345"];
  lab.mountPoint = await lab.mount(url, "repo", ...flags);
  const asOwner = async (script: string) =>
    (await lab.sh(
      "exec setpriv --reuid 12345 --regid 12345 --clear-groups env HOME=/nonexistent " +
        'sh -euc "$2" sh "$1"',
      [lab.mountPoint, `cd "$1"; ${script}`],
      { env: IDENTITY },
    )).stdout;
  const shown = "one\\r\\ntwo\\r\\nLOWER CASE\nwolf\n";
  const look = "od -An -c a/x.crlf | tr -d ' \\n'; cat b/x.up b/x.evil";
  assert.equal(await asOwner(look), shown);
  // Whatever the owner configures from now on runs as the owner too.
  await asOwner(`for key in core.fsmonitor core.sshCommand core.pager filter.crlf.smudge \\
      core.askPass filter.id.process filter.evil.smudge; do
      git config $key 'id -u >>${log}; cat'; done
    printf 'NEW\\r\\n' >a/new.crlf; git add a/new.crlf; git commit -q -m new
    printf '*.crlf text eol=crlf\\n*.x filter=crlf\\n' >.gitattributes; git commit -q -am attributes`);
  await lab.dirty();
  assert.deepEqual(await lab.daemon.logged("Base does not follow HEAD"), []);
  assert.equal(await asOwner(look), shown);
  await lab.dropCaches();
  assert.equal(await asOwner(look), shown);
  const ids = new Set((await Deno.readTextFile(log)).trim().split("\n"));
  assert.deepEqual([...ids], ["12345"]);
  await assert.rejects(Deno.lstat(lab.at("evil-ran")), Deno.errors.NotFound);
});

conversionTest("LFS that is configured and not there: pointers, said once", async (lab) => {
  await lab.configure(`[filter "lfs"]
    process = git-lfs filter-process
    smudge = git-lfs smudge -- %f
    required = true
`);
  await makeRemote(lab);
  lab.env["PATH"] = await lab.pathWithout("git-lfs");
  const url = lab.serve().url("repo");
  lab.daemon = await lab.startDaemon();
  lab.mountPoint = await lab.mount(url, "repo");
  assert.match(await lab.inMount("cat b/x.lfs"), /^version https.*\noid.*\nsize 5\n$/s);
  const told = await lab.daemon.logged(LFS_TOLD);
  assert.equal(told.length, 1);
});

conversionTest("many files of a directory are few requests and few runs of git", async (lab) => {
  await lab.configure("");
  await lab.sh(
    `git init -q -b main "$1"; cd "$1"; mkdir d; i=0
    while [ $i -lt 400 ]; do printf "$i\\n" >d/$i; i=$((i + 1)); done
    echo '* text eol=crlf' >.gitattributes; git add -A; git commit -q -m one
    git clone -q --bare . "$2"
    git rm -q .gitattributes; git commit -q -m two; git clone -q --bare . "$3"
    for repo in "$2" "$3"; do
      git -C "$repo" config uploadpack.allowFilter true
      git -C "$repo" config uploadpack.allowAnySHA1InWant true
    done`,
    [lab.at("work"), lab.at("remotes", "repo.git"), lab.at("remotes", "plain.git")],
    { env: IDENTITY },
  );
  await Deno.writeTextFile(lab.at("home", ".gitconfig"), "");
  await Deno.mkdir(lab.at("bin"));
  const { stdout: real } = await lab.sh("command -v git");
  await Deno.writeTextFile(
    lab.at("bin", "git"),
    `#!/bin/sh\nprintf '%s\\n' "$*" >>${lab.at("runs")}\nexec ${real.trim()} "$@"\n`,
    { mode: 0o755 },
  );
  lab.env["PATH"] = `${lab.at("bin")}:${lab.env["PATH"]}`;
  const server = lab.serve();
  lab.daemon = await lab.startDaemon();
  await lab.afs(["mount", "--depth", "1", server.url("plain"), lab.at("mnt", "plain")]);
  const { requests: plain } = server.counters();
  await lab.afs(["mount", "--depth", "1", server.url("repo"), lab.at("mnt", "repo")]);
  const { requests: both } = server.counters();
  assert.equal(both - plain, plain + 1, "the attributes file is one more");
  const { stdout } = await lab.sh(
    'ls -l "$1/d" | awk \'NR > 1 {s += $5} END {print s}\'; cat "$1"/d/* | wc -c',
    [lab.at("mnt", "repo")],
  );
  let expected = 0;
  for (let i = 0; i < 400; i++) expected += String(i).length + 2;
  assert.deepEqual(stdout.trim().split("\n").map(Number), [expected, expected]);
  assert.ok(server.counters().requests - both <= 2);
  const runs = (await Deno.readTextFile(lab.at("runs"))).split("\n");
  const checkouts = runs.filter((line) => line.includes("checkout-index"));
  assert.ok(checkouts.length >= 1 && checkouts.length <= 3, `${checkouts.length} runs`);
});
