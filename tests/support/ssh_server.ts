/** A real sshd on loopback with keys of its own, for the user who runs the test. */

import { run, waitFor } from "./run.ts";

export interface SshServer extends AsyncDisposable {
  /** `ssh://user@127.0.0.1:PORT<path>`. */
  url(path: string): string;
  /** A private key that it takes. */
  readonly keyPath: string;
  /** An ssh that knows the server, has no key, and reads nothing of whoever runs it. */
  readonly command: string;
}

/** Where sshd is; null: nowhere. It is rarely in the PATH of who is not root. */
export async function sshdPath(): Promise<string | null> {
  const script = 'PATH="$PATH:/usr/sbin:/sbin" command -v sshd';
  const { code, stdout } = await run("sh", ["-c", script], { okCodes: "any" });
  return code === 0 ? stdout.trim() : null;
}

/** `folder` exists. */
export async function startSshd(sshd: string, folder: string): Promise<SshServer> {
  const { stdout } = await run("id", ["-un"]);
  const user = stdout.trim();
  for (const name of ["host", "user"]) {
    await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", `${folder}/${name}`]);
  }
  await Deno.copyFile(`${folder}/user.pub`, `${folder}/authorized`);
  const port = freePort();
  const config = [
    "ListenAddress 127.0.0.1",
    `Port ${port}`,
    `HostKey ${folder}/host`,
    `AuthorizedKeysFile ${folder}/authorized`,
    "PidFile none",
    "UsePAM no",
    // The folder lies in /tmp, which others may write.
    "StrictModes no",
    "PermitRootLogin prohibit-password",
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
  ];
  await Deno.writeTextFile(`${folder}/sshd_config`, `${config.join("\n")}\n`);
  const hostKey = (await Deno.readTextFile(`${folder}/host.pub`)).split(" ").slice(0, 2).join(" ");
  await Deno.writeTextFile(`${folder}/known`, `[127.0.0.1]:${port} ${hostKey}\n`);
  await Deno.writeTextFile(
    `${folder}/ssh_config`,
    `IdentityFile none\nUserKnownHostsFile ${folder}/known\nStrictHostKeyChecking yes\n`,
  );
  if (Deno.uid() === 0) await Deno.mkdir("/run/sshd", { recursive: true });
  const child = new Deno.Command(sshd, {
    args: ["-D", "-f", `${folder}/sshd_config`, "-E", `${folder}/sshd.log`],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  await waitFor(async () => {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port });
    conn.close();
    return true;
  }, "sshd");
  return {
    url: (path) => `ssh://${user}@127.0.0.1:${port}${path}`,
    keyPath: `${folder}/user`,
    command: `ssh -F ${folder}/ssh_config`,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.status;
    },
  };
}

/** A port that nobody listens on now. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** An ssh-agent with this key. */
export async function startAgent(
  socket: string,
  keyPath: string,
): Promise<{ readonly env: Record<string, string> } & AsyncDisposable> {
  const child = new Deno.Command("ssh-agent", {
    args: ["-D", "-a", socket],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const env = { SSH_AUTH_SOCK: socket };
  await waitFor(async () => {
    await run("ssh-add", ["-q", keyPath], { env });
    return true;
  }, "ssh-agent");
  return {
    env,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.status;
    },
  };
}
