/**
 * A smart-HTTP git server for tests: `git http-backend` as CGI behind an HTTP/1.1 server of our
 * own, with adjustable latency and faults, counting what arrives.
 *
 * The HTTP side is hand-written on Deno.listen because node:http in Deno 2.7 emits no "connection"
 * event and its sockets cannot be cut (`req.socket.destroy()` leaves the client waiting);
 * connections are what much of this measures.
 *
 * Latency model: a new connection waits 2 x rtt before its first request is read (TCP and TLS), and
 * each response's first byte comes one rtt after the end of its request; git works meanwhile.
 *
 * Everything about a request but `bytesOut`, `ms` and the final `outcome` is counted before the
 * first byte of its response leaves, so a client that has its answer finds it in `counters()`.
 */
import {
  DEFAULTS,
  type GitServer,
  type GitServerCounters,
  type GitServerOptions,
  type GitServerSettings,
  type Login,
  NO_COUNTS,
  parseSettings,
  type RequestKind,
  type RequestLogEntry,
} from "./git_server_api.ts";
import {
  Connection,
  encode,
  Gone,
  type RequestHead,
  responseHead,
  sleepUntil,
} from "./http_connection.ts";
import { concat, GIT_ENV, killGroup } from "./run.ts";

/** Starts a server on 127.0.0.1. Throws when the port is taken. */
export function startGitServer(options: GitServerOptions): GitServer {
  return new Server(options);
}

class Server implements GitServer {
  readonly port: number;
  readonly requestLog: RequestLogEntry[] = [];
  readonly #root: string;
  readonly #control: boolean;
  readonly #settings: GitServerSettings;
  #counters: GitServerCounters = { ...NO_COUNTS };
  readonly #listener: Deno.TcpListener;
  readonly #connections = new Set<Connection>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #accepting: Promise<void>;
  readonly #startedAt = performance.now();
  #connectionNumber = 0;
  #pacedUntil = 0;
  #changed = Promise.withResolvers<void>();
  #closed = false;

  constructor(options: GitServerOptions) {
    const { root, port, control, ...settings } = options;
    this.#root = root;
    this.#control = control ?? false;
    this.#settings = { ...DEFAULTS, ...settings };
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: port ?? 0 });
    this.port = this.#listener.addr.port;
    this.#accepting = this.#accept();
  }

  url(name: string, credentials?: Login): string {
    const login = credentials === undefined
      ? ""
      : `${encodeURIComponent(credentials.user)}:${encodeURIComponent(credentials.password)}@`;
    return `http://${login}127.0.0.1:${this.port}/${name}`;
  }

  counters(): GitServerCounters {
    return { ...this.#counters };
  }

  resetCounters(): void {
    this.#counters = { ...NO_COUNTS, inflight: this.#counters.inflight };
    this.requestLog.length = 0;
  }

  get settings(): Readonly<GitServerSettings> {
    return this.#settings;
  }

  set(settings: Partial<GitServerSettings>): void {
    Object.assign(this.#settings, settings);
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#listener.close();
    for (const connection of this.#connections) connection.end();
    await this.#accepting;
    await Promise.all(this.#tasks);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #accept(): Promise<void> {
    for (;;) {
      let conn: Deno.TcpConn;
      try {
        conn = await this.#listener.accept();
      } catch {
        if (this.#closed) return;
        continue; // a client that went away in the queue
      }
      conn.setNoDelay(true);
      const connection = new Connection(conn);
      this.#connections.add(connection);
      const task = this.#serveConnection(connection).catch((error) => {
        if (!(error instanceof Gone)) console.error("git server:", error);
      }).finally(() => {
        connection.end();
        this.#connections.delete(connection);
        this.#tasks.delete(task);
      });
      this.#tasks.add(task);
    }
  }

  async #serveConnection(connection: Connection): Promise<void> {
    let fresh = true;
    for (;;) {
      const head = await connection.readHead();
      if (head === null) return;
      const startedAt = performance.now();
      if (this.#control && head.target.startsWith("/__ctl__/")) {
        await this.#serveControl(connection, head);
        if (!head.keepAlive) return;
        continue;
      }
      if (fresh) {
        connection.number = ++this.#connectionNumber;
        this.#counters.connections++;
        await connection.sleep(2 * this.#settings.rttMs);
      }
      const entry: RequestLogEntry = {
        atMs: startedAt - this.#startedAt,
        connection: connection.number,
        fresh,
        method: head.method,
        path: head.target,
        kind: "other",
        authScheme: (head.headers.get("authorization") ?? "").split(" ")[0] ?? "",
        wantOids: [],
        haveCount: 0,
        filter: "",
        deepen: "",
        bytesIn: 0,
        status: 0,
        bytesOut: 0,
        ms: -1,
        outcome: "pending",
      };
      fresh = false;
      this.requestLog.push(entry);
      this.#counters.requests++;
      this.#counters.inflight++;
      try {
        await this.#serveRequest(connection, head, entry);
        entry.outcome = "done";
      } catch (error) {
        this.#counters.aborted++;
        if (entry.outcome === "pending") entry.outcome = "gone";
        throw error;
      } finally {
        entry.ms = performance.now() - startedAt;
        this.#counters.inflight--;
      }
      if (!head.keepAlive) return;
    }
  }

  async #serveRequest(
    connection: Connection,
    head: RequestHead,
    entry: RequestLogEntry,
  ): Promise<void> {
    if (head.headers.get("expect")?.toLowerCase() === "100-continue") {
      await connection.write(encode("HTTP/1.1 100 Continue\r\n\r\n"));
    }
    const url = new URL(head.target, "http://host");
    const path = decodeURIComponent(url.pathname);
    const service = /^(.*)\/(info\/refs|git-upload-pack|git-receive-pack)$/.exec(path);
    const action = service?.[2] ?? "";
    if (action === "info/refs") entry.kind = "discovery";
    else if (action === "git-receive-pack") entry.kind = "push";

    // A request to upload-pack is small and says what it is; everything else is passed on as it
    // comes.
    let body = this.#counted(connection.body(head), entry);
    let length = head.contentLength;
    if (action === "git-upload-pack") {
      const bytes = concat(await Array.fromAsync(body));
      describe(await decodeBody(bytes, head.headers.get("content-encoding") ?? ""), entry);
      body = once(bytes);
      length = bytes.length;
      this.#counters.wants += entry.kind === "fetch" ? entry.wantOids.length : 0;
    }
    this.#counters[entry.kind]++;
    let dueAt = performance.now() + this.#settings.rttMs;

    while (this.#settings.hang) {
      await connection.watching(this.#changed.promise);
      dueAt = performance.now();
    }

    const refuse = async (status: number, text: string, headers: [string, string][] = []) => {
      for await (const _ of body) { /* the connection goes on behind it */ }
      await this.#plain(connection, entry, dueAt, status, text, headers);
    };
    if (this.#settings.down) return await refuse(503, "switched off\n");
    if (this.#settings.redirectTo !== null) {
      const location = this.#settings.redirectTo.replace(/\/$/, "") + head.target;
      return await refuse(302, "", [["Location", location]]);
    }
    const login = this.#settings.login;
    if (login !== null && head.headers.get("authorization") !== basicAuth(login)) {
      return await refuse(401, "login required\n", [["WWW-Authenticate", 'Basic realm="git"']]);
    }
    const { repeatLogin } = this.#settings;
    if (repeatLogin !== null && login !== null) {
      const plain = `${login.user}:${login.password}`;
      const forms = [`Authorization: ${basicAuth(login)}`, btoa(plain), plain, encodeURI(plain)];
      const text = forms.map((form) => `error: you sent ${form}\n`).join("");
      return await refuse(repeatLogin, text);
    }
    const repo = service === null ? null : await this.#find(service[1] ?? "");
    if (repo === null) return await refuse(404, "no such repository\n");
    await this.#cgi(connection, head, entry, {
      url,
      path,
      dueAt,
      body,
      length,
      translated: `${repo}/${action}`,
    });
  }

  async *#counted(
    body: AsyncGenerator<Uint8Array>,
    entry: RequestLogEntry,
  ): AsyncGenerator<Uint8Array, void, void> {
    for await (const chunk of body) {
      entry.bytesIn += chunk.length;
      this.#counters.bytesIn += chunk.length;
      yield chunk;
    }
  }

  async #find(path: string): Promise<string | null> {
    const name = path.replace(/^\/+/, "");
    if (name === "" || name.split("/").some((part) => part === "" || /^\.{1,2}$/.test(part))) {
      return null;
    }
    for (const candidate of [name, name.replace(/\.git$/, ""), name + ".git"]) {
      const full = `${this.#root}/${candidate}`;
      const info = await Deno.stat(full).catch(() => null);
      if (info?.isDirectory) return full;
    }
    return null;
  }

  async #plain(
    connection: Connection,
    entry: RequestLogEntry,
    dueAt: number,
    status: number,
    text: string,
    headers: [string, string][] = [],
  ): Promise<void> {
    this.#decided(entry, status);
    const bytes = encode(text);
    await connection.sleep(dueAt - performance.now());
    const lines: [string, string][] = [
      ["Content-Type", "text/plain"],
      ["Content-Length", String(bytes.length)],
      ...headers,
    ];
    entry.bytesOut += bytes.length;
    this.#counters.bytesOut += bytes.length;
    await connection.write(concat([responseHead(status, lines), bytes]));
  }

  #decided(entry: RequestLogEntry, status: number): void {
    entry.status = status;
    if (status >= 400) this.#counters.errors++;
  }

  async #cgi(
    connection: Connection,
    head: RequestHead,
    entry: RequestLogEntry,
    call: {
      url: URL;
      path: string;
      dueAt: number;
      body: AsyncGenerator<Uint8Array>;
      length: number | null;
      translated: string;
    },
  ): Promise<void> {
    const settings = this.#settings;
    const config: [string, string][] = [
      ["uploadpack.allowFilter", String(settings.filter)],
      ["uploadpack.allowAnySHA1InWant", String(settings.anySha1InWant)],
      ["transfer.advertiseObjectInfo", String(settings.objectInfo)],
      ["http.receivepack", String(settings.allowPush)],
      ["http.maxRequestBuffer", "256m"],
      ["safe.directory", "*"],
      ["gc.auto", "0"],
    ];
    const env: Record<string, string> = {
      ...GIT_ENV,
      PATH: Deno.env.get("PATH") ?? "/usr/bin:/bin",
      HOME: "/nonexistent",
      GATEWAY_INTERFACE: "CGI/1.1",
      SERVER_PROTOCOL: "HTTP/1.1",
      REQUEST_METHOD: head.method,
      QUERY_STRING: call.url.search.slice(1),
      PATH_TRANSLATED: call.translated,
      PATH_INFO: call.path,
      REMOTE_ADDR: "127.0.0.1",
      REMOTE_USER: settings.login?.user ?? "anonymous",
      CONTENT_TYPE: head.headers.get("content-type") ?? "",
      HTTP_CONTENT_ENCODING: head.headers.get("content-encoding") ?? "",
      GIT_HTTP_EXPORT_ALL: "1",
      GIT_CONFIG_COUNT: String(config.length),
    };
    if (call.length !== null) env["CONTENT_LENGTH"] = String(call.length); // else: until EOF
    config.forEach(([key, value], index) => {
      env[`GIT_CONFIG_KEY_${index}`] = key;
      env[`GIT_CONFIG_VALUE_${index}`] = value;
    });
    const protocol = head.headers.get("git-protocol");
    if (protocol !== undefined && settings.protocolV2) {
      env["GIT_PROTOCOL"] = protocol;
      env["HTTP_GIT_PROTOCOL"] = protocol;
    }
    const child = new Deno.Command("git", {
      args: ["http-backend"],
      clearEnv: true,
      env,
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
      detached: true, // a group: http-backend leaves upload-pack behind when it is killed
    }).spawn();
    const out = child.stdout.getReader();
    let exited = false;
    const exit = child.status.then((status) => {
      exited = true;
      return status;
    });
    const feeding = feedBody(child.stdin, call.body);
    try {
      const first = await connection.orGone(readCgiHead(out));
      await connection.orGone(feeding); // the next bytes on the wire are the next request's
      this.#decided(entry, first.status);
      await connection.watching(sleepUntil(call.dueAt, connection.signal));
      const headers = first.headers.filter(([name]) =>
        !/^(content-length|connection|transfer-encoding)$/i.test(name)
      );
      await connection.write(
        responseHead(first.status, [...headers, ["Transfer-Encoding", "chunked"]]),
      );
      let chunk: Uint8Array | undefined = first.rest;
      while (chunk !== undefined) {
        if (chunk.length > 0) await this.#sendBody(connection, entry, chunk);
        const next = await connection.watching(out.read());
        chunk = next.done ? undefined : next.value;
      }
      const status = await exit;
      // A backend that failed in the middle must not look like a complete answer.
      if (!status.success && first.status < 400 && status.signal !== null) throw new Gone();
      await connection.write(encode("0\r\n\r\n"));
    } finally {
      if (!exited) killGroup(child.pid);
      await out.cancel().catch(() => {});
      await feeding;
      await exit;
    }
  }

  async #sendBody(
    connection: Connection,
    entry: RequestLogEntry,
    chunk: Uint8Array,
  ): Promise<void> {
    const settings = this.#settings;
    const isFetch = entry.kind === "fetch";
    const send = async (bytes: Uint8Array) => {
      if (bytes.length === 0) return;
      await this.#pace(connection, bytes.length);
      entry.bytesOut += bytes.length;
      this.#counters.bytesOut += bytes.length;
      await connection.write(
        concat([encode(bytes.length.toString(16) + "\r\n"), bytes, encode("\r\n")]),
      );
    };
    if (!isFetch) return await send(chunk);

    const corruptAt = settings.corruptAtByte === null
      ? -1
      : settings.corruptAtByte - entry.bytesOut;
    if (corruptAt >= 0 && corruptAt < chunk.length) {
      chunk = chunk.slice();
      chunk[corruptAt] = ~(chunk[corruptAt] ?? 0) & 0xff;
    }
    const limit = Math.min(
      settings.truncateAfterBytes ?? Infinity,
      settings.stallAfterBytes ?? Infinity,
    );
    const room = limit - entry.bytesOut;
    if (chunk.length <= room) return await send(chunk);
    const head = chunk.subarray(0, Math.max(0, room));
    await send(head);
    while (
      settings.stallAfterBytes !== null && entry.bytesOut >= settings.stallAfterBytes
    ) await connection.watching(this.#changed.promise);
    if (settings.truncateAfterBytes !== null && entry.bytesOut >= settings.truncateAfterBytes) {
      entry.outcome = "truncated";
      connection.end();
      throw new Gone();
    }
    await this.#sendBody(connection, entry, chunk.subarray(head.length));
  }

  async #pace(connection: Connection, bytes: number): Promise<void> {
    if (this.#settings.mbps <= 0) return;
    const start = Math.max(performance.now(), this.#pacedUntil);
    this.#pacedUntil = start + bytes * 8 / (this.#settings.mbps * 1000);
    await connection.sleep(this.#pacedUntil - performance.now());
  }

  async #serveControl(connection: Connection, head: RequestHead): Promise<void> {
    for await (const _ of connection.body(head)) { /* ignored */ }
    const url = new URL(head.target, "http://host");
    let status = 200;
    let answer: unknown;
    if (url.pathname === "/__ctl__/stats") {
      answer = this.counters();
    } else if (url.pathname === "/__ctl__/reset") {
      this.resetCounters();
      answer = this.counters();
    } else if (url.pathname === "/__ctl__/log") {
      answer = this.requestLog;
    } else if (url.pathname === "/__ctl__/set") {
      try {
        this.set(parseSettings(url.searchParams));
        answer = { ...this.#settings, login: this.#settings.login === null ? null : "set" };
      } catch (error) {
        status = 400;
        answer = { error: error instanceof Error ? error.message : String(error) };
      }
    } else {
      status = 404;
      answer = { error: "no such control" };
    }
    const bytes = encode(JSON.stringify(answer) + "\n");
    await connection.write(concat([
      responseHead(status, [
        ["Content-Type", "application/json"],
        ["Content-Length", String(bytes.length)],
      ]),
      bytes,
    ]));
  }
}

function basicAuth(login: Login): string {
  const bytes = new TextEncoder().encode(`${login.user}:${login.password}`);
  return "Basic " + btoa(String.fromCharCode(...bytes));
}

// Reading requests: what kind, which oids.

async function decodeBody(bytes: Uint8Array<ArrayBuffer>, encoding: string): Promise<Uint8Array> {
  if (!/^(x-)?gzip$/i.test(encoding)) return bytes;
  try {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    return new Uint8Array(); // git will refuse it
  }
}

const COMMANDS: Readonly<Record<string, RequestKind>> = {
  "ls-refs": "lsRefs",
  "fetch": "fetch",
  "object-info": "objectInfo",
};

function describe(body: Uint8Array, entry: RequestLogEntry): void {
  const text = new TextDecoder("latin1");
  for (let at = 0; at + 4 <= body.length;) {
    const length = parseInt(text.decode(body.subarray(at, at + 4)), 16);
    if (!(length > 4)) {
      if (Number.isNaN(length)) return;
      at += 4; // flush, delimiter, response end
      continue;
    }
    const line = text.decode(body.subarray(at + 4, at + length));
    at += length;
    const match = /^([a-z-]+)[ =]([^\n\0]*)/.exec(line);
    if (match === null) continue;
    const [, word = "", value = ""] = match;
    if (word === "command") entry.kind = COMMANDS[value] ?? "other";
    else if (word === "want" || word === "oid") {
      const oid = /^([0-9a-f]{64}|[0-9a-f]{40})( |$)/.exec(value)?.[1];
      if (oid === undefined) continue;
      entry.wantOids.push(oid);
      if (word === "want" && entry.kind === "other") entry.kind = "fetch"; // version 0
    } else if (word === "have") entry.haveCount++;
    else if (word === "filter") entry.filter = value;
    else if (word.startsWith("deepen")) entry.deepen = `${word} ${value}`;
  }
}

// CGI.

async function feedBody(
  stdin: WritableStream<Uint8Array>,
  body: AsyncGenerator<Uint8Array>,
): Promise<void> {
  const writer = stdin.getWriter();
  let open = true;
  const quietly = async (step: () => Promise<void>) => {
    try {
      if (open) await step();
    } catch {
      open = false; // git wants no more; the rest is read and dropped
    }
  };
  writer.closed.catch(() => {});
  try {
    for await (const chunk of body) await quietly(() => writer.write(chunk));
  } catch {
    // The client is gone; who reads from it next finds out.
  }
  await quietly(() => writer.close());
  if (!open) await writer.abort().catch(() => {});
}

interface CgiHead {
  status: number;
  headers: [string, string][];
  rest: Uint8Array;
}

async function readCgiHead(out: ReadableStreamDefaultReader<Uint8Array>): Promise<CgiHead> {
  let bytes: Uint8Array = new Uint8Array();
  for (;;) {
    const text = new TextDecoder("latin1").decode(bytes.subarray(0, 65536));
    const end = /\r?\n\r?\n/.exec(text);
    if (end !== null) {
      const headers: [string, string][] = [];
      let status = 200;
      for (const line of text.slice(0, end.index).split(/\r?\n/)) {
        const colon = line.indexOf(":");
        if (colon < 0) continue;
        const name = line.slice(0, colon);
        const value = line.slice(colon + 1).trim();
        if (name.toLowerCase() === "status") status = parseInt(value, 10);
        else headers.push([name, value]);
      }
      return { status, headers, rest: bytes.subarray(end.index + end[0].length) };
    }
    const { done, value } = await out.read();
    if (done) {
      return { status: 500, headers: [], rest: encode("git http-backend gave no answer\n") };
    }
    bytes = concat([bytes, value]);
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}
