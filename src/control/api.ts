/**
 * The daemon's API: what is asked and answered on `<state root>/control.sock`, HTTP with JSON.
 *
 *     POST /v1/<verb>   {"version": 1, "operation": "<uuid>", "params": {...}}
 *
 * The answer is lines of JSON: any number of `progress` and `event`, then exactly one `result` or
 * `failure`. A client that goes away before the last line, or that asks to `cancel` the operation,
 * aborts it, and what an acquisition had made is undone. `shutdown` goes on all the same.
 *
 * A client of `events` that does not read gets a `failure` as its last line, and nobody waits for it.
 *
 * The same shapes, with `version` beside them, are what `--json` prints.
 */

import * as v from "valibot";
import { EXIT_CODES, Failure, type FailureKind } from "../failure.ts";
import { isOid, type Oid } from "../git/oid.ts";
import { LOG_LEVELS } from "../log.ts";
import { EventLine } from "./events.ts";

/** A request of another version is refused. Fields may be added without a new one. */
export const API_VERSION = 1;

const text = v.pipe(v.string(), v.maxLength(8192));
const nullableText = v.nullable(text);
const whole = v.pipe(v.number(), v.integer(), v.minValue(0));
/** uid_t and gid_t; the last value means "none" to the kernel. */
const userId = v.pipe(whole, v.maxValue(0xffff_fffe));
const absolute = v.pipe(text, v.startsWith("/", "not an absolute path"));

/** Which repository: by its name, or by where it is mounted. */
export const Selector = v.variant("by", [
  v.strictObject({ by: v.literal("name"), name: text }),
  v.strictObject({ by: v.literal("dir"), dir: absolute }),
]);
export type Selector = v.InferOutput<typeof Selector>;

const None = v.strictObject({});

/** Up to a week. */
const refreshSeconds = v.pipe(whole, v.minValue(1), v.maxValue(7 * 24 * 3600));

const SourceParams = {
  /** The source must be this commit, in full, and the base stays there. Null: whatever it is. */
  requiredCommit: v.nullable(v.pipe(text, v.check(isOid), v.transform((oid) => oid as Oid))),
  /** How often the remote is asked for new refs; null: never. Absent: it was not said. */
  refreshSeconds: v.optional(v.nullable(refreshSeconds)),
  /** What holds the token, and only that; null: none is given. */
  tokenFile: v.optional(v.nullable(absolute), null),
  /** Permission bits of group and others that files do not have. Absent: it was not said. */
  umask: v.optional(v.pipe(whole, v.maxValue(0o077))),
  readOnly: v.optional(v.boolean(), false),
  /** Where the user's git directory is to lie; null: below the state root. */
  gitDir: v.optional(v.nullable(absolute), null),
  /** It is there, has a remote and nothing else, and is to be prepared. */
  preparedGitDir: v.optional(v.boolean(), false),
  /** Nothing but the source, and the tags that lead to its commits. */
  singleBranch: v.optional(v.boolean(), false),
};

const MountParams = v.strictObject({
  /** May hold credentials: it is never logged. */
  url: text,
  dir: absolute,
  /** Null: the directory's name, with a number behind it when that is taken. */
  name: nullableText,
  branch: nullableText,
  depth: v.nullable(whole),
  uid: userId,
  gid: userId,
  xattrs: v.boolean(),
  ...SourceParams,
  /**
   * Where `dir` can be reached though an automount has everybody else wait: a descriptor of who
   * asks, as /proc/PID/fd/N.
   */
  through: v.optional(v.pipe(text, v.regex(/^\/proc\/[1-9]\d*\/fd\/\d+$/))),
  /** Whether they were asked for; false: who would own a new one. */
  ownerGiven: v.optional(v.boolean(), false),
  /** When to answer: the tree can be read, or the history is there too. */
  wait: v.picklist(["tree", "history"]),
});

const AddRepoParams = v.strictObject({
  /** May hold credentials: it is never logged. Null: what a prepared git directory says. */
  remote: nullableText,
  name: text,
  branch: nullableText,
  depth: v.nullable(whole),
  /** The mount point is `<mountRoot>/<name>`. Null: the daemon's `--root`. */
  mountRoot: v.nullable(absolute),
  /** Answer at once, and prepare it behind. */
  async: v.optional(v.boolean(), false),
  uid: userId,
  gid: userId,
  xattrs: v.boolean(),
  ...SourceParams,
});

const RemoveRepoParams = v.strictObject({
  repo: Selector,
  force: v.boolean(),
  dryRun: v.boolean(),
});

/** One repository as `status` shows it. */
export const RepoStatus = v.object({
  repo: v.string(),
  state: v.picklist(["mounted", "unmounted", "preparing", "failed"]),
  mountPoint: v.string(),
  /** Without credentials. */
  remote: v.string(),
  /** Oid of HEAD's commit; null: it has none, or it cannot be read. */
  head: v.nullable(v.string()),
  /** Full ref HEAD is on; null: detached. */
  ref: v.nullable(v.string()),
  /** What was acquired: a full ref, a commit's oid, or `HEAD`. */
  sourceRef: v.string(),
  /** What it had to be; null: whatever it was. */
  requiredCommit: v.nullable(v.string()),
  /** `verified`: the source was what it had to be when it was acquired. */
  acquisition: v.picklist(["not_required", "pending", "verified"]),
  /** Beneath the work tree; null: nothing yet. */
  baseCommit: v.nullable(v.string()),
  /** Commits against the upstream; null: unknown, e.g. while the history comes in. */
  ahead: v.nullable(whole),
  behind: v.nullable(whole),
  diverged: v.nullable(v.boolean()),
  /** ISO 8601, UTC; null: never. */
  lastFetch: v.nullable(v.string()),
  /** `ok`, or one line about what failed last. */
  result: v.string(),
  /** Why it could not be prepared; null: it was, or is being. */
  prepareError: v.nullable(v.string()),
  hydratedBlobs: whole,
  hydratedBytes: whole,
  /** Whether the work tree differs from its base; null: the overlay cannot be read. */
  overlayDirty: v.nullable(v.boolean()),
  /** Names that differ, each counted once; a directory that was moved or replaced is one. */
  overlay: v.nullable(v.object({ created: whole, modified: whole, deleted: whole })),
  /** `fetching`, `full` or `shallow:<depth>`. */
  history: v.string(),
  /** FUSE requests that want a reply, since it was mounted; null: not mounted. */
  requests: v.nullable(whole),
  /** How often the remote is asked while it is mounted: `30s`, `never`. */
  remoteRefresh: v.string(),
  /** Where the token for the remote is read; null: there is no such file. */
  tokenFile: v.nullable(v.string()),
  uid: whole,
  gid: whole,
});
export type RepoStatus = v.InferOutput<typeof RepoStatus>;

/** One repository as `list-repos` shows it. */
export const RepoSummary = v.object({
  repo: v.string(),
  state: v.picklist(["mounted", "unmounted", "preparing", "failed"]),
  mountPoint: v.string(),
  remote: v.string(),
  branch: v.nullable(v.string()),
});
export type RepoSummary = v.InferOutput<typeof RepoSummary>;

export const MountResult = v.object({
  repo: v.string(),
  mountPoint: v.string(),
  remote: v.string(),
  /** Null: it is being prepared. */
  head: v.nullable(v.string()),
  ref: v.nullable(v.string()),
  history: v.string(),
  /** It comes behind the mount, where everything waits for it. */
  preparing: v.boolean(),
  /** Whether this call acquired it; false: it was registered before. */
  acquired: v.boolean(),
  /** False: `add-repo` without a daemon; the next daemon mounts it. */
  mounted: v.boolean(),
});
export type MountResult = v.InferOutput<typeof MountResult>;

export const RemoveResult = v.object({
  repo: v.string(),
  mountPoint: v.string(),
  removed: v.boolean(),
  /** What exists nowhere else, e.g. `2 commits on branch main`. */
  onlyHere: v.array(v.string()),
});
export type RemoveResult = v.InferOutput<typeof RemoveResult>;

export const FetchResult = v.object({
  repo: v.string(),
  mountPoint: v.string(),
  /** Tracking refs and tags that were changed; null: not counted, the whole history came. */
  refs: v.nullable(whole),
  /** As in RepoStatus. */
  ahead: v.nullable(whole),
  behind: v.nullable(whole),
  diverged: v.nullable(v.boolean()),
  lastFetch: v.nullable(v.string()),
});
export type FetchResult = v.InferOutput<typeof FetchResult>;

const SetRefreshParams = v.strictObject({
  repo: Selector,
  /** Null: never. */
  seconds: v.nullable(refreshSeconds),
});

const SwitchParams = v.strictObject({
  repo: Selector,
  /** A branch, or what names a commit. */
  target: text,
  /** `git var GIT_COMMITTER_IDENT` of who asks; null: unknown. */
  committer: nullableText,
  /** The directory of who asks, from the root of the work tree; null: outside of it. */
  cwd: nullableText,
});

const SwitchHead = { commitOid: v.string(), treeOid: v.string(), ref: v.nullable(v.string()) };
const SwitchResult = v.variant("outcome", [
  v.object({
    repo: v.string(),
    mountPoint: v.string(),
    outcome: v.literal("switched"),
    head: v.object(SwitchHead),
    /** `follows`: the remote's branch that it was made from, e.g. `origin/topic`. */
    target: v.object({ ...SwitchHead, name: v.string(), follows: v.nullable(v.string()) }),
    /** Paths that differ. */
    changed: whole,
  }),
  /** Nothing was changed: `git switch` is to do it, or to refuse. */
  v.object({
    repo: v.string(),
    mountPoint: v.string(),
    outcome: v.literal("handed-over"),
    reason: v.string(),
  }),
]);
export type SwitchResult = v.InferOutput<typeof SwitchResult>;

const LogLevel = v.picklist(LOG_LEVELS);

const RepoAt = v.object({ repo: v.string(), mountPoint: v.string() });
export type RepoAt = v.InferOutput<typeof RepoAt>;

/** Every verb: what it takes and what it gives. */
export const VERBS = {
  ping: {
    params: None,
    result: v.object({
      pid: whole,
      afs: v.string(),
      /** The file it logs to; null: standard error, in the foreground. */
      logPath: v.optional(v.nullable(v.string())),
    }),
  },
  cancel: { params: v.strictObject({ operation: text }), result: v.object({ found: v.boolean() }) },
  /** Ends the daemon when no repository is registered and nothing else is asked. */
  "stop-if-unused": { params: None, result: v.object({ stopping: v.boolean() }) },
  /** Ends the daemon; the answer comes when nothing is mounted any more. */
  shutdown: { params: None, result: v.object({ pid: whole }) },
  /** `event` lines until the client goes. Null: of all repositories, and of the daemon. */
  events: { params: v.strictObject({ name: nullableText }), result: None },
  /** Null: it stays as it is. */
  "log-level": {
    params: v.strictObject({ level: v.nullable(LogLevel) }),
    result: v.object({ level: LogLevel }),
  },
  mount: { params: MountParams, result: MountResult },
  "add-repo": { params: AddRepoParams, result: MountResult },
  "remove-repo": { params: RemoveRepoParams, result: RemoveResult },
  unmount: { params: v.strictObject({ repo: Selector, lazy: v.boolean() }), result: RepoAt },
  remount: { params: v.strictObject({ repo: Selector }), result: RepoAt },
  /** Waits until what was asked for with `async` is here, and tries again what has failed. */
  prepare: { params: v.strictObject({ repo: Selector }), result: MountResult },
  fetch: { params: v.strictObject({ repo: Selector }), result: FetchResult },
  "set-refresh": {
    params: SetRefreshParams,
    result: v.object({ ...RepoAt.entries, remoteRefresh: v.string() }),
  },
  switch: { params: SwitchParams, result: SwitchResult },
  "list-repos": { params: None, result: v.object({ repos: v.array(RepoSummary) }) },
  status: {
    params: v.strictObject({ repo: v.nullable(Selector) }),
    result: v.object({ repos: v.array(RepoStatus) }),
  },
} as const;

export type Verb = keyof typeof VERBS;
export type Params<V extends Verb> = v.InferOutput<(typeof VERBS)[V]["params"]>;
export type Result<V extends Verb> = v.InferOutput<(typeof VERBS)[V]["result"]>;

/** What a long verb is doing. */
const Progress = v.object({
  kind: v.literal("progress"),
  /** A fixed phrase: `Fetching the newest commit`. */
  phase: v.string(),
  /** 0 to 100; null: unknown. */
  percent: v.nullable(v.number()),
});
export type Progress = v.InferOutput<typeof Progress>;

const FAILURE_KINDS = Object.keys(EXIT_CODES) as FailureKind[];
const FailureLine = v.object({
  kind: v.literal("failure"),
  failure: v.object({ kind: v.picklist(FAILURE_KINDS), message: v.string() }),
});
const ResultLine = v.object({ kind: v.literal("result"), result: v.unknown() });

const EventAnswer = v.object({ kind: v.literal("event"), ...EventLine.entries });

/** One line of an answer. */
export const AnswerLine = v.variant("kind", [Progress, EventAnswer, FailureLine, ResultLine]);
export type AnswerLine = v.InferOutput<typeof AnswerLine>;

const Envelope = v.strictObject({
  version: v.literal(API_VERSION),
  operation: v.pipe(v.string(), v.uuid()),
  params: v.unknown(),
});

export interface Request<V extends Verb> {
  readonly operation: string;
  readonly params: Params<V>;
}

export function isVerb(text: string): text is Verb {
  return Object.hasOwn(VERBS, text);
}

/** Checks a request's body. Throws Failure (fatal: another version; usage: malformed). */
export function parseRequest<V extends Verb>(verb: V, body: unknown): Request<V> {
  const version = v.safeParse(v.object({ version: v.number() }), body);
  if (version.success && version.output.version !== API_VERSION) {
    throw new Failure(
      "fatal",
      `Cannot answer a request of API version ${version.output.version}: this daemon speaks ` +
        `version ${API_VERSION}; end it, and use one version of afs`,
    );
  }
  const envelope = check(Envelope, body, verb);
  // The table pairs each verb with its schema; the type checker cannot follow the index.
  const params = check(VERBS[verb].params as v.GenericSchema, envelope.params, verb);
  return { operation: envelope.operation, params: params as Params<V> };
}

/** Checks the result of a verb. Throws Failure (fatal). */
export function parseResult<V extends Verb>(verb: V, value: unknown): Result<V> {
  const parsed = v.safeParse(VERBS[verb].result as v.GenericSchema, value);
  if (parsed.success) return parsed.output as Result<V>;
  throw new Failure(
    "fatal",
    `Cannot read the daemon's answer to ${verb}: ${
      issueText(parsed.issues)
    }; end it, and use one ` +
      "version of afs",
  );
}

function check<T>(schema: v.GenericSchema<unknown, T>, value: unknown, verb: Verb): T {
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return parsed.output;
  throw new Failure("usage", `Cannot read the request ${verb}: ${issueText(parsed.issues)}`);
}

/** Names the field only: its value may be a secret. */
function issueText(issues: readonly v.BaseIssue<unknown>[]): string {
  const [issue] = issues;
  if (issue === undefined) return "it is malformed";
  return `${v.getDotPath(issue) ?? "it"} is wrong (${issue.expected ?? issue.type} expected)`;
}
