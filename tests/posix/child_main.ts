/**
 * One actor: a process that makes the steps it is told, one at a time, and says what they gave.
 * Its standard input and output are lines of JSON, a Request and a Reply each.
 *
 *     deno run -A child_main.ts '{"uid":0,"gid":0,"groups":[]}'
 */

import { CASES } from "./cases/mod.ts";
import { toStep } from "./case.ts";
import { writeFixture } from "./fixture.ts";
import { applyFault } from "./faults.ts";
import type { ActorOptions, Reply, Request } from "./runner.ts";
import { type Before, NOTHING_BEFORE, stateOf, timesBefore } from "./state.ts";
import * as raw from "./syscalls.ts";

const options = JSON.parse(Deno.args[0] ?? "") as ActorOptions;
if (options.uid !== 0) raw.becomeUser(options.uid, options.gid, options.groups);

let s = new raw.Sys();
let before: Before = { startNs: 0n, times: new Set() };

function caseNamed(name: string) {
  const found = CASES.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no case ${name}`);
  return found;
}

function perform(request: Request): unknown {
  switch (request.kind) {
    case "prepare": {
      const test = caseNamed(request.case);
      raw.umask(0o022);
      if (request.make) {
        raw.mkdir(request.directory);
        writeFixture(request.directory, test.fixture ?? []);
      }
      raw.chdir(request.directory);
      test.setup?.(new raw.Sys());
      before = timesBefore(request.directory);
      return null;
    }
    case "enter":
      s = new raw.Sys();
      raw.umask(0o022);
      if (options.fault !== undefined) applyFault(s, options.fault);
      raw.chdir(request.directory);
      return null;
    case "step": {
      const step = caseNamed(request.case).steps[request.index];
      if (step === undefined) throw new Error(`no step ${request.index}`);
      return toStep(step).call(s) ?? null;
    }
    case "leave":
      s.reset();
      raw.chdir("/");
      return null;
    case "state":
      return stateOf(request.directory, before, caseNamed(request.case).compare ?? {});
    case "exact":
      return stateOf(request.directory, NOTHING_BEFORE, { ino: true, xattr: request.xattr });
    case "probe":
      return xattrErrno(request.directory);
  }
}

/** The errno that setting an extended attribute there fails with; "" when it does not. */
function xattrErrno(directory: raw.ByteString): string {
  const path = `${directory}/probe`;
  raw.mkdir(path);
  const errno = raw.errnoOf(() => raw.setxattr(path, "user.probe", raw.toBytes("1")));
  raw.unlink(path, raw.AT_REMOVEDIR);
  return errno;
}

function replyTo(request: Request): Reply {
  try {
    return { value: perform(request) };
  } catch (error) {
    if (error instanceof raw.RawFsError) return { errno: raw.errnoName(error.errno) };
    return { threw: error instanceof Error ? error.message : String(error) };
  }
}

const encoder = new TextEncoder();
let rest = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop() ?? "";
  for (const line of lines) {
    const reply = JSON.stringify(
      replyTo(JSON.parse(line) as Request),
      (_, value) => typeof value === "bigint" ? String(value) : value,
    );
    const bytes = encoder.encode(reply + "\n");
    for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
  }
}
