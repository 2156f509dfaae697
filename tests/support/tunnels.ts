/** What stands between a client and a server of tests: TLS, and a proxy. Both count. */

import { run } from "./run.ts";

/** A listener that leads each connection to somewhere else. */
export interface Tunnel extends AsyncDisposable {
  readonly port: number;
  /** First lines of what clients said, one a connection. */
  readonly asked: readonly string[];
}

type Listener = Deno.Listener<Deno.TcpConn | Deno.TlsConn>;

/** `https://localhost:PORT` in front of a plain server, with a certificate of `makeAuthority`. */
export function startTls(authority: Authority, targetPort: number): Tunnel {
  const listener = Deno.listenTls({
    hostname: "127.0.0.1",
    port: 0,
    cert: authority.certificate,
    key: authority.key,
  });
  return new Pipes(listener, async (client) => ({
    asked: "",
    server: await Deno.connect({ hostname: "127.0.0.1", port: targetPort }),
    first: new Uint8Array(),
    client,
  }));
}

/**
 * A proxy for http and https (CONNECT). A connection leads to the host of its first request;
 * whoever serves there has to take whole URLs as paths.
 */
export function startProxy(): Tunnel {
  return new Pipes(Deno.listen({ hostname: "127.0.0.1", port: 0 }), async (client) => {
    const head = await readHead(client);
    const [asked = ""] = new TextDecoder("latin1").decode(head).split("\r\n");
    const [method, target = ""] = asked.split(" ");
    const { hostname, port } = new URL(method === "CONNECT" ? `http://${target}` : target);
    const server = await Deno.connect({ hostname, port: Number(port) });
    if (method !== "CONNECT") return { asked, server, first: head, client };
    await writeAll(client, new TextEncoder().encode("HTTP/1.1 200 Connected\r\n\r\n"));
    return { asked, server, first: new Uint8Array(), client };
  });
}

interface Opened {
  readonly asked: string;
  readonly server: Deno.TcpConn;
  /** To be said to the server first. */
  readonly first: Uint8Array;
  readonly client: Deno.Conn;
}

class Pipes implements Tunnel {
  readonly port: number;
  readonly asked: string[] = [];
  readonly #listener: Listener;
  readonly #open = new Set<Deno.Conn>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #accepting: Promise<void>;
  #closed = false;

  constructor(listener: Listener, begin: (client: Deno.Conn) => Promise<Opened>) {
    this.#listener = listener;
    this.port = (listener.addr as Deno.NetAddr).port;
    this.#accepting = this.#accept(begin);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#listener.close();
    for (const conn of this.#open) close(conn);
    await this.#accepting;
    await Promise.all(this.#tasks);
  }

  async #accept(begin: (client: Deno.Conn) => Promise<Opened>): Promise<void> {
    while (!this.#closed) {
      let client: Deno.Conn;
      try {
        client = await this.#listener.accept();
      } catch {
        continue; // closed, or a client that went away
      }
      this.#open.add(client);
      const task = this.#serve(begin, client).catch(() => {}).finally(() => {
        close(client);
        this.#open.delete(client);
        this.#tasks.delete(task);
      });
      this.#tasks.add(task);
    }
  }

  async #serve(begin: (client: Deno.Conn) => Promise<Opened>, client: Deno.Conn): Promise<void> {
    const { asked, server, first } = await begin(client);
    this.asked.push(asked);
    this.#open.add(server);
    try {
      await writeAll(server, first);
      await Promise.all([copy(client, server), copy(server, client)]);
    } finally {
      close(server);
      this.#open.delete(server);
    }
  }
}

/** To the end of one, and then both are at their end. */
async function copy(from: Deno.Conn, to: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(65536);
  try {
    for (;;) {
      const count = await from.read(buffer);
      if (count === null) break;
      await writeAll(to, buffer.subarray(0, count));
    }
  } finally {
    close(from);
    close(to);
  }
}

async function writeAll(to: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
}

async function readHead(from: Deno.Conn): Promise<Uint8Array> {
  const buffer = new Uint8Array(65536);
  for (let length = 0; length < buffer.length;) {
    const count = await from.read(buffer.subarray(length));
    if (count === null) throw new Error("the client has gone");
    length += count;
    const head = buffer.subarray(0, length);
    if (new TextDecoder("latin1").decode(head).includes("\r\n\r\n")) return head;
  }
  throw new Error("a head without an end");
}

function close(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch {
    // Closed already.
  }
}

export interface Authority {
  /** Of the authority, to be trusted by clients. */
  readonly caPath: string;
  /** Of `localhost`, signed by it. PEM. */
  readonly certificate: string;
  readonly key: string;
}

/** A certificate authority that nobody knows, made in a folder that exists. */
export async function makeAuthority(folder: string): Promise<Authority> {
  const script = `cd "$1"
    key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
    openssl req -x509 $key -keyout ca.key -out ca.pem -days 2 -subj /CN=throw-away
    openssl req $key -keyout host.key -out host.csr -subj /CN=localhost
    printf 'subjectAltName=DNS:localhost\\n' >extensions
    openssl x509 -req -in host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
      -extfile extensions -out host.pem`;
  await run("sh", ["-euc", script, "sh", folder]);
  return {
    caPath: `${folder}/ca.pem`,
    certificate: await Deno.readTextFile(`${folder}/host.pem`),
    key: await Deno.readTextFile(`${folder}/host.key`),
  };
}
