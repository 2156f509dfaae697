/** What the git server of tests (git_server.ts) can be told, and what it counts. */

export interface Login {
  user: string;
  password: string;
}

/** What can be changed while the server runs. */
export interface GitServerSettings {
  /** Round trip in milliseconds; see the module's head. 0 unless told. */
  rttMs: number;
  /** Cap on the response bodies of all connections together, megabit per second; 0 = none. */
  mbps: number;
  /** Basic auth that every request must carry (401 otherwise); null = none. */
  login: Login | null;
  /** uploadpack.allowFilter. false = a server without partial clone. true unless told. */
  filter: boolean;
  /** uploadpack.allowAnySHA1InWant. Only protocol v0 looks at it: v2 serves any oid it has. */
  anySha1InWant: boolean;
  /** false: the client's Git-Protocol header is not passed on, so git answers as version 0. */
  protocolV2: boolean;
  /** transfer.advertiseObjectInfo. false unless told. */
  objectInfo: boolean;
  /** http.receivepack. false unless told. */
  allowPush: boolean;
  /** Every request is answered 503. */
  down: boolean;
  /** Requests are taken and not answered; those that wait go on when it becomes false. */
  hang: boolean;
  /**
   * Cut the connection after so many bytes of the body of a fetch response (not ls-refs); null =
   * never.
   */
  truncateAfterBytes: number | null;
  /** As above, but the connection stays open and silent until this is changed; null = never. */
  stallAfterBytes: number | null;
  /** Invert the byte at this offset of the body of each fetch response; null = none. */
  corruptAtByte: number | null;
  /**
   * Every request with a login that is not refused is answered with this status, and a text that
   * has the login in all forms; null = none.
   */
  repeatLogin: number | null;
  /** Every request is answered 302 to this base URL plus its own path and query; null = none. */
  redirectTo: string | null;
}

export interface GitServerOptions extends Partial<GitServerSettings> {
  /**
   * Directory of bare repositories; `/NAME` and `/NAME.git` both find `root/NAME` or
   * `root/NAME.git`.
   */
  root: string;
  /** 0 (or absent) = any free port. */
  port?: number;
  /**
   * Answer GET /__ctl__/stats, /__ctl__/reset and /__ctl__/set?rttMs=30&down=1..., never delayed or
   * counted.
   */
  control?: boolean;
}

/**
 * "discovery" is GET info/refs; the others are protocol v2 commands, or `fetch` for a v0 upload-
 * pack.
 */
export type RequestKind = "discovery" | "lsRefs" | "fetch" | "objectInfo" | "push" | "other";

export interface GitServerCounters {
  /** All requests, refused ones included. */
  requests: number;
  /** TCP connections that sent a request. */
  connections: number;
  discovery: number;
  lsRefs: number;
  fetch: number;
  objectInfo: number;
  push: number;
  other: number;
  /** `want` lines in fetch requests; the same oid asked for twice counts twice. */
  wants: number;
  /** Request bodies as received. */
  bytesIn: number;
  /** Response bodies as sent, without HTTP framing. */
  bytesOut: number;
  /** Responses with a status of 400 and above; a 401 that asks for the login is one. */
  errors: number;
  /** Responses cut or left by us or the client before their end. */
  aborted: number;
  /** Requests under way now. */
  inflight: number;
}

export interface RequestLogEntry {
  /** Milliseconds since the server's start. */
  atMs: number;
  /** Number of the connection, from 1. */
  connection: number;
  /** First request of its connection. */
  fresh: boolean;
  method: string;
  /** Path and query. */
  path: string;
  kind: RequestKind;
  /** Name of the Authorization scheme and nothing more; "" without the header. */
  authScheme: string;
  /** Oids of `want` (fetch) or `oid` (object-info) lines. */
  wantOids: string[];
  haveCount: number;
  /** Argument of `filter`, `deepen...` lines as sent, "" without. */
  filter: string;
  deepen: string;
  bytesIn: number;
  /** 0 while it is not decided. */
  status: number;
  bytesOut: number;
  /** Time from the request's head to the last byte of the response; -1 while under way. */
  ms: number;
  outcome: "pending" | "done" | "truncated" | "gone";
}

export interface GitServer extends AsyncDisposable {
  readonly port: number;
  /** `http://127.0.0.1:PORT/NAME`, with a login in it when given. */
  url(name: string, credentials?: Login): string;
  counters(): GitServerCounters;
  /** Sets all counters but `inflight` to 0 and empties the log. */
  resetCounters(): void;
  readonly requestLog: RequestLogEntry[];
  set(settings: Partial<GitServerSettings>): void;
  readonly settings: Readonly<GitServerSettings>;
  /** Closes all connections, kills what runs for them, and waits until all is gone. */
  close(): Promise<void>;
}

export const DEFAULTS: GitServerSettings = {
  rttMs: 0,
  mbps: 0,
  login: null,
  filter: true,
  anySha1InWant: true,
  protocolV2: true,
  objectInfo: false,
  allowPush: false,
  down: false,
  hang: false,
  truncateAfterBytes: null,
  stallAfterBytes: null,
  corruptAtByte: null,
  repeatLogin: null,
  redirectTo: null,
};

export const NO_COUNTS: GitServerCounters = {
  requests: 0,
  connections: 0,
  discovery: 0,
  lsRefs: 0,
  fetch: 0,
  objectInfo: 0,
  push: 0,
  other: 0,
  wants: 0,
  bytesIn: 0,
  bytesOut: 0,
  errors: 0,
  aborted: 0,
  inflight: 0,
};

/**
 * Settings from a query: numbers, 1/0/true/false, `login=USER:PASSWORD`, and an empty value for
 * null. Throws TypeError for an unknown name or a value that does not fit.
 */
export function parseSettings(query: Iterable<[string, string]>): Partial<GitServerSettings> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of query) {
    const bad = new TypeError(`Cannot set ${key} to "${value}"`);
    switch (key as keyof GitServerSettings) {
      case "rttMs":
      case "mbps":
      case "truncateAfterBytes":
      case "stallAfterBytes":
      case "corruptAtByte":
      case "repeatLogin": {
        const nullable = key !== "rttMs" && key !== "mbps";
        if (value === "" && nullable) out[key] = null;
        else if (/^\d+(\.\d+)?$/.test(value)) out[key] = Number(value);
        else throw bad;
        break;
      }
      case "filter":
      case "anySha1InWant":
      case "protocolV2":
      case "objectInfo":
      case "allowPush":
      case "down":
      case "hang":
        if (!/^(0|1|true|false)$/.test(value)) throw bad;
        out[key] = value === "1" || value === "true";
        break;
      case "login": {
        const [user, ...rest] = value.split(":");
        if (value === "") out[key] = null;
        else if (user !== undefined && rest.length > 0) {
          out[key] = { user, password: rest.join(":") };
        } else throw bad;
        break;
      }
      case "redirectTo":
        out[key] = value === "" ? null : value;
        break;
      default:
        throw new TypeError(`Cannot set ${key}: no such setting`);
    }
  }
  return out as Partial<GitServerSettings>;
}
