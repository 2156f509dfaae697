/**
 * Every transport from the mount to the refresh: https, http, ssh, git and file, with what the
 * environment and git's configuration say about connections.
 */

import assert from "node:assert/strict";
import { startGitServer } from "../support/git_server.ts";
import { git, waitFor } from "../support/run.ts";
import { freePort, sshdPath, startAgent, startSshd } from "../support/ssh_server.ts";
import { makeAuthority, startProxy, startTls } from "../support/tunnels.ts";
import { Cli, cliTest, makeRepo } from "./cli_harness.ts";
import { labTest, without } from "./harness.ts";

const NO_OPENSSL = await without("openssl");
const SSHD = await sshdPath();
const NO_SSHD = await without(SSHD === null ? "sshd" : "ssh-agent");

async function push(gitDir: string): Promise<void> {
  const args = ["commit-tree", "-p", "main", "-m", "pushed", "main^{tree}"];
  const { stdout } = await git(["-C", gitDir, ...args]);
  await git(["-C", gitDir, "update-ref", "refs/heads/main", stdout.trim()]);
}

/** Mounts, reads cold, has the history, fetches, refreshes, and starts again. */
async function useAll(afs: Cli, url: string, gitDir: string): Promise<void> {
  await makeRepo(gitDir);
  await afs.ok(["mount", url, "m", "--wait=history", "--refresh", "never"]);
  const cat = async (name: string) => (await afs.sh('cat "$1"', [afs.at("m", name)])).stdout;
  assert.equal(await cat("file.txt"), "content 3\n");
  assert.ok((await afs.statusOf("m")).hydratedBlobs > 0);
  assert.equal((await afs.statusOf("m")).history, "full");
  // Git in the mount, with the environment of whoever mounted.
  const inMount = async (...args: string[]) => {
    return (await afs.sh('cd "$1"; shift; git "$@"', [afs.at("m"), ...args])).stdout;
  };
  assert.equal(await inMount("log", "--format=%s"), "c3\nc2\nc1\n");
  assert.equal(await inMount("show", "HEAD~1:file.txt"), "content 2\n");
  await push(gitDir);
  assert.equal((await afs.json(["fetch", "m"])).behind, 1);
  await push(gitDir);
  await inMount("fetch", "--quiet");
  assert.equal(await inMount("rev-list", "--count", "HEAD..@{upstream}"), "2\n");
  await push(gitDir);
  await afs.ok(["set-refresh", "m", "--interval", "1s"]);
  await waitFor(async () => (await afs.statusOf("m")).behind === 3, "refresh");
  assert.equal((await afs.statusOf("m")).result, "ok");
  // The next daemon has the environment of the command that starts it.
  await afs.endDaemon();
  await afs.ok(["mount", url, "m"]);
  assert.equal(await cat("dir/other.txt"), "other\n");
  await push(gitDir);
  assert.equal((await afs.json(["fetch", "m"])).behind, 4);
}

cliTest("http", async (afs) => {
  await using server = startGitServer({ root: afs.at("srv") });
  await useAll(afs, server.url("repo"), afs.at("srv", "repo.git"));
});

cliTest("file", async (afs) => {
  await useAll(afs, `file://${afs.at("srv", "repo.git")}`, afs.at("srv", "repo.git"));
});

cliTest("git: a real git daemon", async (afs) => {
  await Deno.mkdir(afs.at("srv"));
  const port = freePort();
  const listen = ["--listen=127.0.0.1", `--port=${port}`, "--reuseaddr", "--export-all"];
  const daemon = afs.park("git", "daemon", ...listen, `--base-path=${afs.at("srv")}`);
  await waitFor(async () => {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return true;
  }, "git daemon");
  await useAll(afs, `git://127.0.0.1:${port}/repo.git`, afs.at("srv", "repo.git"));
  // It has a child that does the work.
  daemon.killGroup();
});

/** A server behind TLS, with a certificate of an authority that nobody knows. */
async function withTls(
  afs: Cli,
  body: (server: { url: string; caPath: string }) => Promise<void>,
): Promise<void> {
  await using server = startGitServer({ root: afs.at("srv") });
  await Deno.mkdir(afs.at("ca"));
  const authority = await makeAuthority(afs.at("ca"));
  await using tls = startTls(authority, server.port);
  await body({ url: `https://localhost:${tls.port}/repo`, caPath: authority.caPath });
}

const openssl = { skip: NO_OPENSSL };

labTest("https: an authority of GIT_SSL_CAINFO; without it nothing is mounted", Cli, (afs) => {
  return withTls(afs, async ({ url, caPath }) => {
    await makeRepo(afs.at("srv", "repo.git"));
    await afs.fails(["mount", url, "m"], 4, /certificate was refused.*http\.sslCAInfo/);
    await afs.assertNothingLeft();
    await Deno.remove(afs.at("srv"), { recursive: true });
    afs.env["GIT_SSL_CAINFO"] = caPath;
    await useAll(afs, url, afs.at("srv", "repo.git"));
  });
}, openssl);

labTest("https: an authority of git's configuration", Cli, (afs) => {
  return withTls(afs, async ({ url, caPath }) => {
    await afs.sh('git config --global http.sslCAInfo "$1"', [caPath]);
    await useAll(afs, url, afs.at("srv", "repo.git"));
  });
}, openssl);

for (const how of ["http_proxy", "http.proxy"]) {
  cliTest(`a proxy of ${how}: everything goes there`, async (afs) => {
    await using server = startGitServer({ root: afs.at("srv") });
    await using proxy = startProxy();
    const address = `http://127.0.0.1:${proxy.port}`;
    if (how === "http_proxy") afs.env[how] = address;
    else await afs.sh('git config --global http.proxy "$1"', [address]);
    await useAll(afs, server.url("repo"), afs.at("srv", "repo.git"));
    assert.ok(proxy.asked.length > 0);
    assert.equal(proxy.asked.length, server.counters().connections, proxy.asked.join("\n"));
    assert.ok(proxy.asked.every((line) => / http:\/\/127\.0\.0\.1:/.test(line)));
  });
}

labTest("https through a proxy of the environment", Cli, (afs) => {
  return withTls(afs, async ({ url, caPath }) => {
    await using proxy = startProxy();
    afs.env["HTTPS_PROXY"] = `http://127.0.0.1:${proxy.port}`;
    afs.env["GIT_SSL_CAINFO"] = caPath;
    await useAll(afs, url, afs.at("srv", "repo.git"));
    assert.ok(proxy.asked.length > 0);
    assert.ok(proxy.asked.every((line) => line.startsWith("CONNECT localhost:")));
  });
}, openssl);

cliTest("http.extraHeader of git's configuration logs in", async (afs) => {
  const login = { user: "someone", password: "header-t0ken" };
  await using server = startGitServer({ root: afs.at("srv"), login });
  const header = `Authorization: Basic ${btoa(`${login.user}:${login.password}`)}`;
  await afs.sh('git config --global "http.$1.extraHeader" "$2"', [server.url(""), header]);
  await useAll(afs, server.url("repo"), afs.at("srv", "repo.git"));
  assert.equal(server.counters().errors, 0);
});

/** A repository behind sshd. */
async function withSshd(
  afs: Cli,
  body: (sshd: Awaited<ReturnType<typeof startSshd>>, url: string) => Promise<void>,
): Promise<void> {
  await Deno.mkdir(afs.at("ssh"));
  await using sshd = await startSshd(SSHD ?? "sshd", afs.at("ssh"));
  await body(sshd, sshd.url(afs.at("srv", "repo.git")));
}

const real = { skip: NO_SSHD };

labTest("ssh: a key of GIT_SSH_COMMAND; without one nothing is mounted", Cli, (afs) => {
  return withSshd(afs, async (sshd, url) => {
    await makeRepo(afs.at("srv", "repo.git"));
    afs.env["GIT_SSH_COMMAND"] = sshd.command;
    await afs.fails(["mount", url, "m"], 3, /needs a login.*Permission denied/);
    await afs.assertNothingLeft();
    await Deno.remove(afs.at("srv"), { recursive: true });
    afs.env["GIT_SSH_COMMAND"] = `${sshd.command} -i ${sshd.keyPath}`;
    await useAll(afs, url, afs.at("srv", "repo.git"));
  });
}, real);

labTest("ssh: an agent of whoever starts the daemon, and core.sshCommand", Cli, (afs) => {
  return withSshd(afs, async (sshd, url) => {
    await using agent = await startAgent(afs.at("agent"), sshd.keyPath);
    await afs.sh('git config --global core.sshCommand "$1"', [sshd.command]);
    Object.assign(afs.env, agent.env);
    await useAll(afs, url, afs.at("srv", "repo.git"));
  });
}, real);

labTest("ssh: a host that is not known is a failure that says so", Cli, (afs) => {
  return withSshd(afs, async (sshd, url) => {
    await makeRepo(afs.at("srv", "repo.git"));
    await Deno.writeTextFile(afs.at("ssh", "known"), "");
    afs.env["GIT_SSH_COMMAND"] = `${sshd.command} -i ${sshd.keyPath}`;
    await afs.fails(["mount", url, "m"], 3, /host's key is not known to ssh/);
    await afs.assertNothingLeft();
  });
}, real);
