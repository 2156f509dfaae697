/**
 * Where a secret may be: in the one file it is kept in, and nowhere else, whatever the server does.
 * Looked at are the bytes of all files below the lab's folder (the state root, logs, databases and
 * packs), all that the verbs print, what the API answers, and the arguments and the environment of
 * every process of the machine while the transfers run.
 */

import assert from "node:assert/strict";
import { call } from "../../src/control/client.ts";
import { messageOf } from "../../src/failure.ts";
import { startGitServer } from "../support/git_server.ts";
import { killGroup, run, type TempDir, tempDir, waitFor } from "../support/run.ts";
import { type Cli, cliTest, makeRepo } from "./cli_harness.ts";

const LOGIN = { user: "someone", password: "s3cr3t/t0k%n+x" };
const PLAIN = `${LOGIN.user}:${LOGIN.password}`;
const FORMS = [
  LOGIN.password,
  encodeURIComponent(LOGIN.password),
  encodeURI(LOGIN.password),
  // As git writes it.
  encodeURIComponent(LOGIN.password).replaceAll(/%../g, (hex) => hex.toLowerCase()),
  btoa(PLAIN),
];

/** How the login is given; all that afs is told of it. */
type Given = { url: string; flags: string[]; stdin?: string; tokenFile: string | null };

interface Way {
  readonly name: string;
  give(afs: Cli, url: string, urlWithLogin: string): Promise<Given>;
  /** Files with the secret, from the lab's folder; `*`: the repository's id. */
  readonly kept: readonly string[];
}

const WAYS: readonly Way[] = [
  {
    name: "in the URL",
    give: (_, _url, url) => Promise.resolve({ url, flags: [], tokenFile: null }),
    kept: ["state/credentials/*"],
  },
  {
    name: "--token-file",
    async give(afs, url) {
      const tokenFile = afs.at("token");
      await Deno.writeTextFile(tokenFile, PLAIN);
      return { url, flags: ["--token-file", tokenFile], tokenFile };
    },
    kept: ["token"],
  },
  {
    name: "--token-file -",
    give: (_, url) =>
      Promise.resolve({ url, flags: ["--token-file", "-"], stdin: PLAIN, tokenFile: null }),
    kept: ["state/credentials/*"],
  },
  {
    name: "a helper",
    async give(afs, url, urlWithLogin) {
      await afs.sh("git config --global credential.helper store");
      await Deno.writeTextFile(afs.at("home", ".git-credentials"), `${urlWithLogin}\n`);
      return { url, flags: [], tokenFile: null };
    },
    kept: ["home/.git-credentials"],
  },
];

/** Looks at all processes until it is stopped. */
interface Watch {
  /** What was seen: arguments and environment with one of the texts. */
  stop(): Promise<string>;
}

async function watchProcesses(dir: TempDir): Promise<Watch> {
  await Deno.writeTextFile(dir.at("forms"), `${FORMS.join("\n")}\n`);
  const script = `cd "$1"
    while ! test -e stop; do
      grep -aHF -f forms /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>seen 2>/dev/null || true
      echo >>looks
    done`;
  const child = new Deno.Command("sh", {
    args: ["-c", script, "sh", dir.path],
    stdin: "null",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
  await waitFor(() => Deno.stat(dir.at("looks")), "look at the processes");
  return {
    async stop() {
      await Deno.writeTextFile(dir.at("stop"), "");
      const guard = setTimeout(() => killGroup(child.pid), 30_000);
      await child.status;
      clearTimeout(guard);
      return await Deno.readTextFile(dir.at("seen"));
    },
  };
}

/** Another server, to which the remote redirects; everything that it was told. */
function startOther(): { url: string; heard(): string; shutdown(): Promise<void> } {
  const heard: string[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    heard.push(request.url, JSON.stringify([...request.headers]));
    return new Response("login, please\n", {
      status: 401,
      headers: { "WWW-Authenticate": 'Basic realm="other"' },
    });
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    heard: () => heard.join("\n"),
    shutdown: () => server.shutdown(),
  };
}

/** Files with one of the texts, from the lab's folder. */
async function holders(afs: Cli, forms: string): Promise<string[]> {
  const { stdout } = await run(
    "grep",
    ["-rlaF", "-f", forms, "--exclude-dir=m", "--exclude-dir=n", "."],
    { cwd: afs.dir.path, okCodes: [0, 1] },
  );
  const paths = stdout.split("\n").filter((path) => path !== "");
  return paths.map((path) => path.slice(2).replace(/[0-9a-f]{16}$/, "*"));
}

Deno.test("the look at all processes sees arguments and environments", async () => {
  await using dir = await tempDir();
  const watch = await watchProcesses(dir);
  for (const how of [{ args: [PLAIN] }, { env: { TOKEN: PLAIN } }]) {
    const before = (await Deno.readTextFile(dir.at("seen"))).length;
    const child = new Deno.Command("sh", {
      ...how,
      args: ["-c", "read line", "sh", ...how.args ?? []],
      stdin: "piped",
    }).spawn();
    const seen = async () => (await Deno.readTextFile(dir.at("seen"))).slice(before);
    await waitFor(async () => (await seen()).includes(`/proc/${child.pid}/`), "secret");
    await child.stdin.close();
    await child.status;
  }
  await watch.stop();
});

for (const way of WAYS) {
  cliTest(`a secret is where it is kept and nowhere else: ${way.name}`, async (afs) => {
    const gitDir = afs.at("srv", "repo.git");
    await makeRepo(gitDir);
    await using server = startGitServer({ root: afs.at("srv"), login: LOGIN });
    const other = startOther();
    await using dir = await tempDir();
    const watch = await watchProcesses(dir);
    const given = await way.give(afs, server.url("repo"), server.url("repo", LOGIN));
    const { flags, stdin, url } = given;
    const input = stdin === undefined ? {} : { stdin };
    await afs.startDaemon();

    const said: string[] = [];
    // Not by the command line where the URL has the login: that would be the caller's own doing.
    const mount = async (name: string): Promise<number> => {
      if (url === server.url("repo")) {
        const args = ["mount", url, afs.at(name), "--refresh", "never", "--wait=history", ...flags];
        return (await afs.run(args, input)).code;
      }
      const params = { url, dir: afs.at(name), name, branch: null, depth: null };
      const owner = { uid: 0, gid: 0, xattrs: false, readOnly: false, ownerGiven: false };
      const more = {
        requiredCommit: null,
        refreshSeconds: null,
        tokenFile: null,
        gitDir: null,
        preparedGitDir: false,
        singleBranch: false,
        wait: "history",
      } as const;
      try {
        const result = await call(afs.socketPath, "mount", { ...params, ...owner, ...more });
        said.push(JSON.stringify(result));
        return 0;
      } catch (error) {
        said.push(messageOf(error), Deno.inspect(error));
        return 1;
      }
    };
    const use = async (works: boolean): Promise<void> => {
      const read = async () => {
        return (await afs.sh('cat "$1"/*.txt', [afs.at("m")], { okCodes: "any" })).code;
      };
      // What has failed fails at once for some seconds.
      if (works) await waitFor(async () => await read() === 0, "contents", { pollMs: 500 });
      const codes = [
        await read(),
        (await afs.run(["fetch", "m"])).code,
        // What the server says to the user's own git is between the two.
        (await afs.sh('git -C "$1" fetch 2>&-', [afs.at("m")], { okCodes: "any" })).code,
      ];
      if (works) assert.deepEqual(codes, [0, 0, 0]);
      else {
        assert.ok(codes.slice(1).every((code) => code !== 0), `${codes}`);
        assert.notEqual(await mount("n"), 0);
      }
      for (const verb of ["status", "list-repos"]) {
        await afs.ok([verb]);
        await afs.ok([verb, "--json"]);
      }
    };

    assert.equal(await mount("m"), 0);
    server.set({ login: { user: "nobody", password: "knows-this" } });
    await use(false);
    if (way.name === "a helper") await way.give(afs, "", server.url("repo", LOGIN));
    server.set({ login: LOGIN, down: true });
    await use(false);
    server.set({ down: false, redirectTo: other.url });
    await use(false);
    assert.notEqual(other.heard(), "", "nobody was redirected");
    server.set({ redirectTo: null, repeatLogin: 500 });
    await use(false);
    server.set({ repeatLogin: 403 });
    await use(false);
    server.set({ repeatLogin: null });
    await use(true);
    await afs.endDaemon();
    await afs.startDaemon();
    await use(true);
    await afs.ok(["set-refresh", "m", "--interval", "1s"]);
    await afs.run(["switch", "feature", "m"]);
    await afs.ok(["remove-repo", "m", "--dry-run"]);

    const seen = await watch.stop();
    await other.shutdown();
    const texts = {
      processes: seen,
      output: afs.output,
      api: said.join("\n"),
      other: other.heard(),
    };
    for (const [where, text] of Object.entries(texts)) {
      const bad = text.split("\n").filter((line) => FORMS.some((form) => line.includes(form)));
      assert.deepEqual(bad, [], where);
    }
    assert.deepEqual(await holders(afs, dir.at("forms")), way.kept);
  });
}
