/**
 * The real git-lfs: a mount against a plain clone of an equal remote, with a server of LFS objects,
 * and what is there when the server, the login or git-lfs is not. What any filter driver does is
 * in conversion_test.ts.
 */

import assert from "node:assert/strict";
import { LfsServer, oidOf } from "../support/lfs_server.ts";
import { waitFor } from "../support/run.ts";
import { type Daemon, Lab, labTest, without } from "./harness.ts";

const SKIP = await without("git-lfs");

const IDENTITY = {
  GIT_AUTHOR_NAME: "A",
  GIT_AUTHOR_EMAIL: "a@example.com",
  GIT_COMMITTER_NAME: "A",
  GIT_COMMITTER_EMAIL: "a@example.com",
  GIT_AUTHOR_DATE: "1700000000 +0000",
  GIT_COMMITTER_DATE: "1700000000 +0000",
};

/** `main` and `topic`, in which one file differs, one is new and one is gone. "$1": where. */
const TREE = `
git init -q -b main "$1"; cd "$1"; git lfs track '*.bin' >&2; mkdir -p a/deep 'sp ace'
printf 'one\\n' >a/one.bin; seq 1 300000 >a/deep/big.bin; printf '' >a/empty.bin
printf two >'sp ace/it is.bin'; printf three >three.bin; chmod +x three.bin
printf 'plain\\n' >plain.txt; printf 'version\\n' >a/no_pointer.txt
`;
const ONE = new TextEncoder().encode("one\n");
const ONE_POINTER = "version https://git-lfs.github.com/spec/v1\n" +
  `oid sha256:${oidOf(ONE)}\nsize 4\n`;

class LfsLab extends Lab {
  readonly lfs = new LfsServer();
  daemon: Daemon | null = null;
  mountPoint = "";
  clone = "";

  constructor(...args: ConstructorParameters<typeof Lab>) {
    super(...args);
    Object.assign(this.env, IDENTITY);
  }

  /** As `git lfs install` leaves the owner's configuration; `lfs.url` is in the tree unless told. */
  async makeRemote({ url = this.lfs.url }: { url?: string | null } = {}): Promise<void> {
    await this.sh("git lfs install --skip-repo >/dev/null");
    const work = this.at("work");
    await this.sh(
      `${TREE}
      [ -z "$3" ] || git config -f .lfsconfig lfs.url "$3"
      git add -A; git commit -q -m one
      git checkout -q -b topic; printf 'ONE of topic\\n' >a/one.bin; printf new >a/new.bin
      git rm -q three.bin; git add -A; git commit -q -m topic; git checkout -q main
      git init -q --bare -b main "$2"; git remote add origin "file://$2"
      git push -q origin main topic 2>&1
      git -C "$2" config uploadpack.allowFilter true
      git -C "$2" config uploadpack.allowAnySHA1InWant true`,
      [work, this.remote, url ?? ""],
    );
    this.lfs.requests.length = 0;
  }

  get remote(): string {
    return this.at("remotes", "repo.git");
  }

  async mountIt(...flags: string[]): Promise<void> {
    const url = this.serve({ allowPush: true }).url("repo");
    this.daemon = await this.startDaemon();
    this.mountPoint = await this.mount(url, "repo", "--wait=history", ...flags);
  }

  async cloneIt(): Promise<void> {
    this.clone = this.at("clone");
    // Git reads again what is as new as its index.
    await this.sh(
      'git clone -q "$1" "$2"; sleep 1.1; git -C "$2" update-index --force-write-index',
      [`file://${this.remote}`, this.clone],
    );
  }

  async inMount(script: string): Promise<string> {
    return (await this.sh(`cd "$1"; ${script}`, [this.mountPoint])).stdout;
  }

  /** The same in both; what it prints must be the same. */
  async both(script: string): Promise<string> {
    const expected = (await this.sh(`cd "$1"; ${script}`, [this.clone])).stdout;
    assert.equal(await this.inMount(script), expected, script);
    return expected;
  }

  /** Modes, sizes and bytes of all files, sizes first; both are clean before and after. */
  async same(): Promise<void> {
    await this.clean();
    const find = "find . -path ./.git -prune -o -type f";
    await this.both(`${find} -printf '%p %m %s\\n' | sort; ${find} -exec sha256sum {} + | sort`);
    await this.clean();
    await this.both("git lfs ls-files --long --size; git lfs status --porcelain");
  }

  async clean(): Promise<void> {
    assert.equal(await this.both("git status --porcelain"), "");
  }

  /** Of a look at a file that is expected to fail. */
  async failed(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.sh(`cd "$1"; ${script}`, [this.mountPoint], {
      okCodes: "any",
    });
    assert.notEqual(code, 0, stdout);
    return stderr;
  }

  /** What the daemon has said of files that it could not show. */
  async causes(): Promise<string[]> {
    const lines = await this.daemon?.logged("Cannot convert") ?? [];
    return lines.map((line) => String(line["error"]));
  }

  /** A file that could not be shown is tried again after some seconds. */
  async shownAtLast(path: string, content: string): Promise<void> {
    await waitFor(async () => {
      const { stdout } = await this.sh(`cat "$1"`, [`${this.mountPoint}/${path}`], {
        okCodes: "any",
      });
      return stdout === content;
    }, `content of ${path}`);
  }

  override async destroy(): Promise<void> {
    await super.destroy();
    await this.lfs.close();
  }
}

function lfsTest(name: string, body: (lab: LfsLab) => Promise<void>): void {
  labTest(`git-lfs: ${name}`, LfsLab, body, { skip: SKIP });
}

lfsTest("a day's work in a mount and in a clone", async (lab) => {
  await lab.makeRemote();
  await lab.mountIt();
  await lab.cloneIt();
  lab.lfs.requests.length = 0;
  await lab.inMount(
    "git status; ls -R; git log --stat; git diff; git grep -c plain HEAD -- plain.txt",
  );
  assert.equal(lab.lfs.requests.length, 0, "nothing was looked at");
  assert.equal(await lab.inMount("cat a/one.bin"), "one\n");
  assert.equal(lab.lfs.requests.join(), `batch download 1,GET ${oidOf(ONE)}`);
  await lab.same();
  await lab.both("git lfs fsck; git lfs pull 2>&1");
  await lab.same();

  await lab.both(`printf 'more\\n' >>a/one.bin; printf fresh >a/deep/fresh.bin; mv three.bin a/
    git lfs track '*.dat'; seq 1 9 >nine.dat; rm -r 'sp ace'
    git add -A; git status --porcelain; git commit -q -m two; git rev-parse HEAD^{tree}
    git show HEAD:a/one.bin HEAD:nine.dat; git lfs ls-files --long; git diff HEAD~1 --stat`);
  await lab.same();
  await lab.both("git switch -q topic 2>&1; git status --porcelain; cat a/one.bin a/new.bin");
  await lab.same();
  await lab.both(
    "git switch -q main 2>&1; git reset -q --hard HEAD~1; git reset -q --hard HEAD@{1}",
  );
  await lab.same();
  await lab.both("git merge -q --no-edit -s ours topic; git checkout -q topic -- a/one.bin");
  await lab.both("git commit -q -m 'As in topic'; git rev-parse HEAD^{tree}; cat a/one.bin");
  await lab.same();

  lab.lfs.requests.length = 0;
  await lab.inMount("git push -q origin main 2>&1");
  const pushed = lab.lfs.requests.filter((request) => request.startsWith("PUT"));
  assert.equal(pushed.length, 3, "what is new: one.bin with more, fresh.bin, nine.dat");
  const { stdout } = await lab.sh(
    `git clone -q "file://$1" "$2"; cd "$2"; git rev-parse HEAD; cat a/deep/fresh.bin nine.dat`,
    [lab.remote, lab.at("other")],
  );
  assert.equal(stdout, await lab.inMount("git rev-parse HEAD; cat a/deep/fresh.bin nine.dat"));

  await lab.dropCaches();
  await lab.same();
  await lab.endDaemon("SIGKILL");
  lab.daemon = await lab.startDaemon();
  await lab.same();
  assert.deepEqual(await lab.causes(), []);
});

lfsTest("afs switch: the other commit's contents, from the server it names", async (lab) => {
  await lab.makeRemote();
  await using other = new LfsServer();
  const moved = new TextEncoder().encode("moved\n");
  other.objects.set(oidOf(moved), moved);
  await lab.sh(
    `cd "$1"; git checkout -q topic; git config -f .lfsconfig lfs.url "$2"
    printf 'moved\n' >a/one.bin; git commit -q -a -m moved
    git -c core.hooksPath=/dev/null push -q origin topic`,
    [lab.at("work"), other.url],
  );
  await lab.mountIt();
  await lab.cloneIt();
  assert.equal(await lab.inMount("cat a/one.bin"), "one\n");
  const toBranch = async (branch: string) => {
    const { stdout } = await lab.afs(["switch", branch, lab.mountPoint, "--json"]);
    assert.equal(JSON.parse(stdout).outcome, "switched", stdout);
  };
  await toBranch("topic");
  assert.equal(await lab.inMount("cat a/one.bin"), "moved\n");
  assert.deepEqual(other.requests, ["batch download 1", `GET ${oidOf(moved)}`]);
  await toBranch("main");
  // A clone's git-lfs asks the server of the commit before: it starts before `.lfsconfig` is there.
  for (const [from, to] of [[lab.lfs, other], [other, lab.lfs]] as const) {
    for (const [oid, bytes] of from.objects) to.objects.set(oid, bytes);
  }
  for (const branch of ["topic", "main"]) {
    await toBranch(branch);
    await lab.sh('cd "$1"; git switch -q "$2"; sleep 1.1; git update-index --force-write-index', [
      lab.clone,
      branch,
    ]);
    await lab.same();
  }
});

lfsTest("an object that the server has not is EIO, and the log says so", async (lab) => {
  await lab.makeRemote();
  lab.lfs.objects.delete(oidOf(ONE));
  await lab.mountIt();
  const eio = /Input\/output error/;
  assert.match(await lab.failed("cat a/one.bin"), eio);
  assert.match(await lab.failed("ls -l a"), eio);
  assert.match((await lab.causes()).join("\n"), /a\/one\.bin.*Object does not exist/);
  assert.equal(await lab.inMount("cat three.bin 'sp ace/it is.bin'"), "threetwo");
  assert.equal(await lab.inMount("git status --porcelain; ls a | wc -l"), "4\n");
  assert.equal((await lab.statusOf("repo")).result, "ok");
  // It can be taken away all the same.
  assert.equal(await lab.inMount("rm a/one.bin; git status --porcelain"), " D a/one.bin\n");
  assert.match(await lab.failed("git checkout -q a/one.bin"), /Object does not exist/);
  lab.lfs.objects.set(oidOf(ONE), ONE);
  await lab.inMount("git checkout -q a/one.bin");
  await lab.shownAtLast("a/one.bin", "one\n");
  assert.equal(await lab.inMount("git status --porcelain"), "");
});

lfsTest("a server that does not answer holds up its readers, and nothing else", async (lab) => {
  await lab.makeRemote();
  await lab.mountIt();
  lab.lfs.set({ hang: true });
  const reader = lab.park("cat", `${lab.mountPoint}/a/one.bin`);
  await waitFor(() => lab.lfs.requests.length === 2, "a download that waits");
  const script = "cat plain.txt; ls a | wc -l; git status --porcelain; printf x >x.bin; cat x.bin";
  assert.equal(await lab.inMount(script), "plain\n4\nx");
  reader.kill("SIGINT");
  assert.equal(await reader.exited, 130);
  lab.lfs.set({ hang: false });
  await lab.shownAtLast("a/one.bin", "one\n");
  // A daemon that ends takes the download along: the lab looks for processes that are left.
  lab.lfs.set({ hang: true });
  lab.park("cat", `${lab.mountPoint}/a/deep/big.bin`);
  await waitFor(() => lab.lfs.requests.length === 4, "a download that waits");
});

lfsTest("another owner's runs as the owner, and keeps its contents there", async (lab) => {
  await lab.makeRemote();
  await lab.sh('chmod 755 "$2"; mv ~/.gitconfig "$1"', [lab.at("system"), lab.dir.path]);
  delete lab.env["GIT_CONFIG_NOSYSTEM"];
  lab.env["GIT_CONFIG_SYSTEM"] = lab.at("system");
  await lab.mountIt("--uid", "12345", "--gid", "12345");
  const asOwner = async (script: string) =>
    (await lab.sh(
      "exec setpriv --reuid 12345 --regid 12345 --clear-groups env HOME=/nonexistent " +
        'sh -euc "$2" sh "$1"',
      [lab.mountPoint, `cd "$1"; ${script}`],
    )).stdout;
  assert.equal(await asOwner("cat a/one.bin three.bin"), "one\nthree");
  assert.equal(
    await asOwner('find "$(git rev-parse --git-dir)/lfs" ! -user 12345'),
    "",
    "the owner's own git-lfs can write there",
  );
  assert.equal(await asOwner("git lfs pull; git lfs fsck"), "Git LFS fsck OK\n");
  await asOwner("printf more >>a/one.bin; git commit -q -a -m two; git push -q origin main 2>&1");
  assert.equal(await asOwner("git status --porcelain; cat a/one.bin"), "one\nmore");
  assert.ok(lab.lfs.objects.has(oidOf(new TextEncoder().encode("one\nmore"))));
});

lfsTest("a server that wants a login gets the one that the owner's git has", async (lab) => {
  await lab.makeRemote({ url: null });
  await lab.sh(
    `git config --global lfs.url "$2"; cd "$1"; git lfs push --all origin >/dev/null 2>&1`,
    [lab.at("work"), lab.lfs.url],
  );
  lab.lfs.set({ login: { user: "u", password: "word-of-pass" } });
  await lab.mountIt();
  assert.match(await lab.failed("cat a/one.bin"), /Input\/output error/);
  assert.match((await lab.causes()).join("\n"), /terminal prompts disabled/);
  await lab.sh(
    `git config --global credential.helper store
    printf 'protocol=http\\nhost=%s\\nusername=u\\npassword=word-of-pass\\n' "$1" |
      git credential-store store`,
    [new URL(lab.lfs.url).host],
  );
  await lab.shownAtLast("a/one.bin", "one\n");
  assert.doesNotMatch(JSON.stringify(await lab.daemon?.log()), /word-of-pass/);
});

lfsTest("a remote that is a path, whose LFS objects lie beside it", async (lab) => {
  await lab.makeRemote({ url: null });
  lab.daemon = await lab.startDaemon();
  lab.mountPoint = await lab.mount(`file://${lab.remote}`, "repo", "--wait=history");
  await lab.cloneIt();
  await lab.same();
  await lab.inMount(
    "printf more >>a/one.bin; git commit -q -a -m two; git push -q origin main 2>&1",
  );
  await lab.sh('cd "$1"; git pull -q', [lab.clone]);
  await lab.same();
});

lfsTest("not there at the mount: pointers, and contents when it has come", async (lab) => {
  await lab.makeRemote();
  const path = lab.env["PATH"] ?? "";
  lab.env["PATH"] = await lab.pathWithout("git-lfs");
  await lab.mountIt();
  assert.equal(await lab.inMount("cat a/one.bin"), ONE_POINTER);
  assert.equal(await lab.inMount("stat -c %s a/one.bin"), `${ONE_POINTER.length}\n`);
  const told = await lab.daemon?.logged(/^LFS files are shown as pointers/) ?? [];
  assert.deepEqual(told.map((line) => line["files"]), [5]);
  lab.env["PATH"] = path;
  await lab.cloneIt();
  // git-lfs reads objects by itself, and knows no partial clones: all have to be here.
  await lab.inMount(
    'git diff-tree -r --numstat "$(git hash-object -t tree /dev/null)" HEAD >/dev/null',
  );
  await lab.inMount("git lfs pull");
  await lab.same();
});
