/**
 * Compares a mount with a commit of a repository that has all objects:
 *
 *   deno run -A compare_main.ts MOUNT GITDIR COMMIT [--read|--stat-only]
 *       [--order=tree|readdir|random:SEED] [--uid=N] [--gid=N] [--checkout] [--no-gitfile]
 *       [--chunk-bytes=N] [--ignore=PERCENT-ENCODED-PATH]...
 *
 * Prints a CompareSummary as JSON. Exit code 0: the same; 1: differences; 2: could not compare;
 * 129: wrong arguments. See compare.ts.
 */
import { compareTree, loadExpected, percentDecode } from "./compare.ts";
import type { CompareOptions } from "./compare.ts";
import { fromUtf8 } from "./raw_fs.ts";

const options: CompareOptions & { ignore: string[] } = { ignore: [] };
const positional: string[] = [];
for (const arg of Deno.args) {
  const [flag, value = ""] = arg.split(/=(.*)/s);
  if (flag === "--read") options.read = true;
  else if (flag === "--stat-only") options.read = false;
  else if (flag === "--order") options.order = value;
  else if (flag === "--uid") options.uid = Number(value);
  else if (flag === "--gid") options.gid = Number(value);
  else if (flag === "--checkout") options.checkout = true;
  else if (flag === "--no-gitfile") options.noGitfile = true;
  else if (flag === "--chunk-bytes") options.chunkBytes = Number(value);
  else if (flag === "--ignore") options.ignore.push(percentDecode(value));
  else if (arg.startsWith("--")) {
    console.error(`compare_main: unknown argument ${arg}`);
    Deno.exit(129);
  } else positional.push(arg);
}
const [mountPoint, gitDir, commit] = positional;
if (mountPoint === undefined || gitDir === undefined || commit === undefined) {
  console.error("compare_main: MOUNT GITDIR COMMIT are wanted");
  Deno.exit(129);
}
try {
  const expected = await loadExpected(gitDir, commit);
  const summary = compareTree(fromUtf8(mountPoint), expected, { ...options, gitDir });
  console.log(JSON.stringify(summary, null, 2));
  Deno.exit(summary.differenceCount === 0 ? 0 : 1);
} catch (error) {
  console.error(error);
  Deno.exit(2);
}
