/** Our own client against a real git server over http, and what happens where it gives up. */

import assert from "node:assert/strict";
import { ObjectWriter, Random, TreeBuilder } from "../../tests/support/git_objects.ts";
import { startGitServer } from "../../tests/support/git_server.ts";
import type { GitServerSettings } from "../../tests/support/git_server_api.ts";
import { git, tempDir } from "../../tests/support/run.ts";
import { type Clock, systemClock } from "../clock.ts";
import type { HostPath } from "../path.ts";
import { writeCredentials } from "./credentials.ts";
import { gitCauseOf } from "./errors.ts";
import { GitFetch } from "./fetch.ts";
import { type ObjectFormat, type Oid, oid } from "./oid.ts";
import { PackDirectory } from "./pack_directory.ts";
import { type Arriving, PackReader } from "./pack_reader.ts";
import { prepareStore, readStoreConfig, type StoreRequest, writeStoreConfig } from "./store.ts";
import { CONNECTION_VARIABLES, reasonForGit } from "./wire.ts";

// What connects git through something else would leave nothing to test.
for (const name of CONNECTION_VARIABLES) Deno.env.delete(name);
// So would a proxy or an insteadOf of whoever runs this; the last test takes it away again.
Deno.env.set("GIT_CONFIG_GLOBAL", "/dev/null");

const FILES = 30;
/** At least one packet of the pack is complete by then, and the pack is not. */
const ONE_PACKET = 75_000;
const LOGIN = { user: "u", password: "secret-p" };
/** Thirty seconds of it pass in thirty milliseconds. */
const HURRIED: Clock = {
  now: () => 0,
  sleep: (_, signal) => systemClock.sleep(1, signal),
};

/** A served remote and a partial store of it without any blob. */
async function served(
  settings: Partial<GitServerSettings> = {},
  options: { readonly format?: ObjectFormat; readonly clock?: Clock } = {},
) {
  const { format = "sha1", clock } = options;
  const dir = await tempDir();
  const remote = dir.at("srv", "remote.git");
  await Deno.mkdir(dir.at("srv"));
  await git(["init", "-q", "--bare", "-b", "main", `--object-format=${format}`, remote]);
  const writer = new ObjectWriter(format);
  const random = new Random(7);
  const builder = new TreeBuilder();
  const contents = Array.from({ length: FILES }, (_, i) => random.text(500 + 300 * i));
  const blobs = contents.map((bytes, i) => {
    const blobOid = oid(writer.blob(bytes));
    builder.put(`dir${i % 3}/file${i}`, "100644", blobOid);
    return blobOid;
  });
  const commitOid = oid(writer.commit(builder.write(writer), [], 1, "first"));
  await writer.flush(remote);
  await git(["-C", remote, "update-ref", "refs/heads/main", commitOid]);
  const server = startGitServer({ root: dir.at("srv"), ...settings });
  const url = server.url("remote.git");

  const storeGitDir = dir.at("store", "git");
  await Deno.mkdir(dir.at("store"));
  await git(["-C", remote, "config", "uploadpack.allowFilter", "true"]);
  const from = `file://${remote}`;
  await git(["clone", "-q", "--bare", "--depth=1", "--filter=blob:none", from, storeGitDir]);
  const config = { remoteUrl: url, objectFormat: format, partial: true, credentials: [] };
  await writeStoreConfig(storeGitDir, config);
  const source = new GitFetch({
    storeGitDir: storeGitDir as HostPath,
    stagingDir: dir.at("store", "staging") as HostPath,
    objectFormat: format,
    ...(clock === undefined ? {} : { clock }),
  });
  const reader = () => new PackReader(new PackDirectory(`${storeGitDir}/objects/pack`), format);
  return {
    dir,
    server,
    url,
    source,
    storeGitDir,
    config,
    blobs,
    contents,
    commitOid,
    reader,
    async [Symbol.asyncDispose]() {
      await server.close();
      await dir.remove();
    },
  };
}

type Served = Awaited<ReturnType<typeof served>>;

function assertHere(s: Served, count = FILES): void {
  const reader = s.reader();
  for (const [i, blobOid] of s.blobs.slice(0, count).entries()) {
    assert.deepEqual(reader.read(blobOid, "blob"), new Uint8Array(s.contents[i]!));
  }
  reader.close();
}

for (const format of ["sha1", "sha256"] as const) {
  Deno.test(`${format}: blobs and a commit come in one request each, on one connection`, async () => {
    await using s = await served({}, { format });
    const fetched = await s.source.fetchBlobs(s.blobs.slice(0, 5));
    assert.equal(fetched.arrived, true);
    assertHere(s, 5);
    assert.deepEqual(
      (await s.source.objectsOf(fetched.packs[0]!)).sort(),
      s.blobs.slice(0, 5).sort(),
    );
    assert.equal((await s.source.fetchCommit(s.commitOid)).arrived, true);
    assertHere(s);
    const { requests, fetch, connections, discovery } = s.server.counters();
    assert.deepEqual([requests, fetch, connections, discovery], [2, 2, 1, 0]);
    const { stdout, stderr } = await git(["--git-dir", s.storeGitDir, "fsck", "--strict"]);
    assert.equal(`${stdout}${stderr}`.match(/error|missing|corrupt|fatal/), null);
  });
}

Deno.test("what has arrived can be read while the rest has not", async () => {
  await using s = await served({ stallAfterBytes: ONE_PACKET });
  const reader = s.reader();
  const seen: Arriving[] = [];
  const some = Promise.withResolvers<void>();
  const fetching = s.source.fetchCommit(s.commitOid, {
    onArriving: (arriving) => {
      seen.push(arriving);
      reader.addArriving(arriving);
      if (reader.read(s.blobs[0]!, "blob") !== undefined) some.resolve();
    },
  });
  await some.promise;
  assert.deepEqual(reader.read(s.blobs[0]!, "blob"), new Uint8Array(s.contents[0]!));
  assert.equal(reader.read(s.blobs[FILES - 1]!, "blob"), undefined);
  s.server.set({ stallAfterBytes: null });
  await fetching;
  for (const { path } of seen) reader.endArriving(path);
  reader.expectPacks();
  assert.deepEqual(reader.read(s.blobs[FILES - 1]!, "blob"), new Uint8Array(s.contents.at(-1)!));
  reader.close();
});

Deno.test("what arrives one after the other is not taken for one pack", async () => {
  await using s = await served();
  await Deno.mkdir(s.dir.at("nothing"));
  const reader = new PackReader(new PackDirectory(s.dir.at("nothing")), "sha1");
  const onArriving = (arriving: Arriving) => reader.addArriving(arriving);
  await s.source.fetchBlobs(s.blobs.slice(0, 20), { onArriving });
  await s.source.fetchBlobs(s.blobs.slice(20), { onArriving });
  // Nobody has said yet that the first has come.
  const sizes = s.blobs.map((blobOid) => reader.size(blobOid));
  assert.deepEqual(sizes, s.contents.map(({ length }) => length));
  reader.close();
});

Deno.test("what the server lacks is named, and the rest comes", async () => {
  await using s = await served();
  const gone = "a".repeat(40) as Oid;
  const { lost, arrived } = await s.source.fetchBlobs([gone, ...s.blobs]);
  assert.deepEqual(lost, [gone]);
  assert.equal(arrived, true);
  assertHere(s);
  assert.equal(s.server.counters().discovery, 0);
});

const ODD: Record<string, Partial<GitServerSettings>> = {
  "answers as version 0": { protocolV2: false },
  "sends a wrong byte in the pack": { corruptAtByte: 9_000 },
  "sends a wrong byte in a packet's length": { corruptAtByte: 30 },
};

for (const [what, settings] of Object.entries(ODD)) {
  Deno.test(`a server that ${what}: git has its turn, once`, async () => {
    await using s = await served(settings);
    // Git's own try finds it well.
    const timer = setInterval(() => {
      if (s.server.counters().discovery > 0) s.server.set({ corruptAtByte: null });
    }, 1);
    const fetching = s.source.fetchBlobs(s.blobs.slice(0, FILES - 1));
    const { arrived } = await fetching.finally(() => clearInterval(timer));
    assert.equal(arrived, false);
    assertHere(s, FILES - 1);
    assert.equal(s.server.counters().discovery, 1);
    // Our client is left alone for a while.
    const before = s.server.counters().requests;
    await s.source.fetchBlobs(s.blobs.slice(FILES - 1));
    assertHere(s);
    assert.deepEqual([s.server.counters().discovery, s.server.counters().requests - before], [
      2,
      2,
    ]);
  });
}

const BROKEN: Record<string, [Partial<GitServerSettings>, string]> = {
  "is down": [{ down: true }, "network"],
  "sends to another host": [{ redirectTo: "http://127.0.0.1:1" }, "network"],
  "breaks the connection": [{ truncateAfterBytes: 9_000 }, "network"],
  "wants a login": [{ login: LOGIN }, "authentication"],
};

for (const [what, [settings, cause]] of Object.entries(BROKEN)) {
  Deno.test(`a server that ${what}: it fails as with git`, async () => {
    await using s = await served(settings);
    const error = await s.source.fetchCommit(s.commitOid).then(() => null, (each) => each);
    assert.equal(gitCauseOf(error), cause, `${error}`);
    const hosts = s.server.requestLog.map(({ authScheme }) => authScheme);
    assert.ok(hosts.every((scheme) => scheme === ""));
    s.server.set({ down: false, redirectTo: null, truncateAfterBytes: null, login: null });
    await s.source.fetchCommit(s.commitOid);
    assertHere(s);
  });
}

Deno.test("a login is sent at once, and is in no message when it is refused", async () => {
  await using s = await served({ login: LOGIN });
  const path = s.dir.at("credentials");
  await writeCredentials(path, { username: LOGIN.user, password: LOGIN.password }, null);
  await writeStoreConfig(s.storeGitDir, { ...s.config, credentials: [path] });
  await s.source.fetchBlobs(s.blobs.slice(0, 3));
  await s.source.fetchCommit(s.commitOid);
  assertHere(s);
  assert.deepEqual(s.server.requestLog.map((each) => each.authScheme), ["Basic", "Basic"]);
  s.server.set({ login: { ...LOGIN, password: "another" } });
  const error = await s.source.fetchCommit(s.commitOid).then(() => null, (each) => each);
  assert.equal(gitCauseOf(error), "authentication");
  assert.ok(!`${error} ${error.stderr}`.includes(LOGIN.password));
});

Deno.test("a server that falls silent is given up after 30 s, without another try", async () => {
  await using s = await served({ stallAfterBytes: 9_000 }, { clock: HURRIED });
  await assert.rejects(s.source.fetchCommit(s.commitOid), /nothing arrived for 30 s/);
  await using silent = await served({ hang: true }, { clock: HURRIED });
  await assert.rejects(silent.source.fetchCommit(silent.commitOid), /nothing arrived for 30 s/);
  assert.equal(silent.server.counters().requests, 1);
  silent.server.set({ hang: false });
});

Deno.test("an abort ends a fetch with its reason", async () => {
  await using s = await served({ stallAfterBytes: ONE_PACKET });
  const controller = new AbortController();
  const fetching = s.source.fetchCommit(s.commitOid, {
    signal: controller.signal,
    onArriving: () => controller.abort(new Error("no more")),
  });
  await assert.rejects(fetching, /no more/);
  const left = Deno.stat(s.dir.at("store", "staging", "0"));
  await assert.rejects(left, Deno.errors.NotFound, "what came of it has gone");
});

/** A new store of the remote. */
function request(s: Served, more: Partial<StoreRequest> = {}): StoreRequest {
  const storeDir = s.dir.at("new");
  Deno.mkdirSync(storeDir, { recursive: true });
  return {
    remoteUrl: s.url,
    credentials: null,
    branch: null,
    depth: null,
    singleBranch: false,
    storeDir,
    gitDir: `${storeDir}/git`,
    mayDeepen: true,
    ...more,
  };
}

for (const branch of [null, "main", "refs/heads/main"]) {
  Deno.test(`branch ${branch}: a store is made in two requests, as git makes it`, async () => {
    await using s = await served();
    const asked = request(s, { branch });
    const state = await prepareStore(asked);
    const { requests, connections, lsRefs } = s.server.counters();
    assert.deepEqual([requests, connections, lsRefs], [2, 1, 1]);
    assert.equal(state.commitOid, s.commitOid);
    assert.deepEqual([state.ref, state.partial, state.objectFormat], [
      "refs/heads/main",
      true,
      "sha1",
    ]);
    assert.equal((await readStoreConfig(asked.gitDir)).remoteUrl, s.url);
    const clone = s.dir.at("clone");
    await git(["clone", "-q", "--bare", "--depth=1", "--single-branch", s.url, clone]);
    for (const file of ["HEAD", "packed-refs"]) {
      assert.equal(
        await Deno.readTextFile(`${asked.gitDir}/${file}`),
        await Deno.readTextFile(`${clone}/${file}`),
      );
    }
    const { stdout } = await git(["--git-dir", asked.gitDir, "rev-parse", "HEAD^{tree}"]);
    assert.match(stdout, /^[0-9a-f]{40}/);
    await git(["--git-dir", asked.gitDir, "fsck", "--strict"]);
  });
}

Deno.test("a tag, no branch, no filter, sha256, no login: git makes the store or says why not", async () => {
  await using s = await served();
  await git(["-C", s.dir.at("srv", "remote.git"), "tag", "v1", s.commitOid]);
  const tag = await prepareStore(request(s, { branch: "v1" }));
  assert.deepEqual([tag.ref, tag.commitOid], [null, s.commitOid]);
  await Deno.remove(s.dir.at("new"), { recursive: true });
  await assert.rejects(prepareStore(request(s, { branch: "none" })), /no branch or tag "none"/);
  s.server.set({ filter: false });
  const { partial } = await prepareStore(request(s));
  assert.equal(partial, false);
  await Deno.remove(s.dir.at("new"), { recursive: true });
  s.server.set({ filter: true, login: LOGIN });
  await assert.rejects(prepareStore(request(s)), { kind: "authentication" });
  await using other = await served({}, { format: "sha256" });
  assert.equal((await prepareStore(request(other))).objectFormat, "sha256");
});

Deno.test("git connects where its configuration or the environment says how", async () => {
  assert.equal(await reasonForGit("ssh://h/x"), "the remote is reached over ssh");
  const env = (name: string, value: string) => {
    Deno.env.set(name, value);
    return { [Symbol.dispose]: () => Deno.env.delete(name) };
  };
  {
    using _ = env("http_proxy", "http://127.0.0.1:1");
    assert.match(await reasonForGit("http://h/x") ?? "", /http_proxy/);
  }
  await using dir = await tempDir();
  using _ = env("GIT_CONFIG_GLOBAL", dir.at("config"));
  for (const [section, key] of [["http", "proxy"], ['url "http://x/"', "insteadOf"]]) {
    await Deno.writeTextFile(dir.at("config"), `[${section}]\n${key} = http://h/\n`);
    assert.match(await reasonForGit("http://h/x") ?? "", /configuration/);
  }
});
