/**
 * Times real work in a mount against a clone on local disk, A B A B, and compares what it leaves.
 * Packages come by npm and cargo, before anything is timed. Exit code: 0 when the results are the
 * same, 1 when not, 129 for a bad command line.
 */

import { describeMachine } from "../bench/machine.ts";
import { median } from "../bench/table.ts";
import { table } from "../conformance/report.ts";
import { AFS, Lab, makeLab } from "../mount/harness.ts";
import { commitFiles, inPlace, makePlaces, type Places, stateOf } from "./places.ts";
import { cProject, type Files } from "./projects.ts";

const USAGE = "usage: sh scripts/workloads [--rounds N]";
const note = (text: string) => console.error(`workloads: ${text}`);

const NPM_PACKAGES = {
  eslint: "9.17.0",
  express: "4.21.2",
  jest: "29.7.0",
  typescript: "5.7.2",
  webpack: "5.97.1",
};
const CARGO_CRATES = { clap: "=4.5.23", regex: "=1.11.1", serde_json: "=1.0.133" };

const FILES: Files = new Map([
  ...cProject("c"),
  [
    "npm/package.json",
    JSON.stringify({ name: "app", version: "1.0.0", private: true, dependencies: NPM_PACKAGES }),
  ],
  [
    "cargo/Cargo.toml",
    `[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\n${
      Object.entries(CARGO_CRATES).map(([name, version]) => `${name} = "${version}"\n`).join("")
    }`,
  ],
  [
    "cargo/src/main.rs",
    `fn main() {
    let found = regex::Regex::new("b+").unwrap().find("aabbb").unwrap().as_str().len();
    let name = clap::Command::new("app").get_name().to_string();
    println!("{}", serde_json::json!({ "found": found, "name": name }));
}
`,
  ],
  [".gitignore", "node_modules/\ntarget/\nout/\n"],
]);

interface Workload {
  readonly name: string;
  /** Not timed, before each round. */
  readonly before: string;
  readonly script: string;
  /** Paths whose bytes hold times or random names; an extended regular expression. */
  readonly ignore?: string;
}

const NPM = "--no-audit --no-fund --no-update-notifier --ignore-scripts --loglevel=error";

const WORKLOADS: readonly Workload[] = [
  {
    name: "npm ci, packages in npm's cache",
    before: "rm -rf npm/node_modules",
    script: `cd npm; npm ci --offline ${NPM} >/dev/null`,
  },
  {
    name: "tsc and eslint start (many small reads)",
    before: ":",
    script: "cd npm; node_modules/.bin/tsc --version; node_modules/.bin/eslint --version",
  },
  {
    name: "cp -a node_modules",
    before: "rm -rf out; mkdir out",
    script: "cp -a npm/node_modules out/copy",
  },
  {
    name: "tar of node_modules through a pipe",
    before: "rm -rf out; mkdir out",
    script: "tar -c npm/node_modules | tar -x -C out",
  },
  {
    name: "grep -r in node_modules",
    before: ":",
    script: "grep -rlF 'module.exports = require' npm/node_modules | sort | sha256sum",
  },
  {
    name: "rm -rf of a copy of node_modules",
    before: "rm -rf out; mkdir out; cp -a npm/node_modules out/copy",
    script: "rm -rf out",
  },
  {
    name: "cargo build of 3 crates and what they need",
    before: "rm -rf cargo/target",
    script: "cd cargo; CARGO_INCREMENTAL=0 cargo build -q --offline; target/debug/app",
    ignore: "cargo/target/debug/(\\.fingerprint|build)/|\\.rustc_info",
  },
  {
    name: "cargo build again after a change",
    before: "echo '// changed' >>cargo/src/main.rs",
    script: "cd cargo; CARGO_INCREMENTAL=0 cargo build -q --offline; target/debug/app",
    ignore: "cargo/target/debug/(\\.fingerprint|build)/|\\.rustc_info",
  },
  {
    name: "make -j4 of 60 sources",
    before: "cd c; make clean >/dev/null",
    script: "cd c; make -j4 >/dev/null; ./program",
    ignore: "cargo/target/",
  },
  {
    name: "git add and commit of 80 changed files",
    before: "echo '// changed' | tee -a c/src/*.c c/include/*.h >/dev/null",
    script: "git commit -q -a -m change; git status --porcelain -uno; git rev-parse HEAD^{tree}",
    ignore: "cargo/target/",
  },
  {
    name: "git status",
    before: ":",
    script: "git status --porcelain",
    ignore: "cargo/target/",
  },
];

/** Fetches packages in the clone; both places get the same lock files. */
async function prepare(lab: Lab, places: Places): Promise<void> {
  note("fetching packages");
  await inPlace(
    lab,
    places,
    places.local,
    `cd npm; npm install ${NPM} >/dev/null; npm ci ${NPM} >/dev/null; cd ../cargo; cargo fetch -q`,
  );
  const script = `cp "$1/npm/package-lock.json" "$2/npm/"; cp "$1/cargo/Cargo.lock" "$2/cargo/"`;
  await lab.sh(script, [places.local, places.mount]);
}

async function measure(rounds: number): Promise<boolean> {
  const lab = await makeLab(Lab);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => void lab.destroy().finally(() => Deno.exit(130)));
  }
  try {
    const facts = await describeMachine(AFS, lab.dir.path);
    const gitDir = lab.at("remotes", "repository.git");
    await commitFiles(gitDir, FILES);
    const places = await makePlaces(lab, gitDir);
    await prepare(lab, places);
    const count = await lab.sh('find "$1/npm/node_modules" -type f | wc -l', [places.local]);
    const rows = [["work", "local disk", "mount", "ratio", "result"]];
    let good = true;
    for (const workload of WORKLOADS) {
      const { row, same } = await measureOne(lab, places, workload, rounds);
      good &&= same;
      rows.push(row);
    }
    await lab.finish();
    facts.push(
      `rounds: ${rounds}, local disk and mount by turns; medians (smallest–largest)`,
      `node_modules: ${count.stdout.trim()} files`,
    );
    console.log(`${facts.map((fact) => `- ${fact}`).join("\n")}\n\n${table(rows)}`);
    return good;
  } catch (error) {
    await lab.showLogs();
    throw error;
  } finally {
    await lab.destroy();
  }
}

async function measureOne(
  lab: Lab,
  places: Places,
  { name, before, script, ignore = "" }: Workload,
  rounds: number,
): Promise<{ row: string[]; same: boolean }> {
  const times = { local: [] as number[], mount: [] as number[] };
  const outputs = { local: "", mount: "" };
  for (let round = 0; round < rounds; round++) {
    for (const place of ["local", "mount"] as const) {
      await inPlace(lab, places, places[place], before);
      const { durationMs, stdout } = await inPlace(lab, places, places[place], script);
      times[place].push(durationMs);
      outputs[place] = stdout;
    }
  }
  const left = await stateOf(lab, places, places.local, ignore);
  const found = await stateOf(lab, places, places.mount, ignore);
  const same = outputs.local === outputs.mount && left === found;
  if (!same) {
    await Deno.writeTextFile(lab.at("local.txt"), outputs.local + left);
    await Deno.writeTextFile(lab.at("mount.txt"), outputs.mount + found);
    const { stdout } = await lab.sh('diff "$1" "$2" | head -n 20', [
      lab.at("local.txt"),
      lab.at("mount.txt"),
    ]);
    note(`${name}: DIFFERENT\n${stdout}`);
  }
  const ratio = (median(times.mount) / median(times.local)).toFixed(2);
  note(`${name}: ${ratio}`);
  const cells = [spread(times.local), spread(times.mount), ratio];
  return { row: [name, ...cells, same ? "same" : "DIFFERENT"], same };
}

function spread(ms: readonly number[]): string {
  const [low, middle, high] = [Math.min(...ms), median(ms), Math.max(...ms)].map((one) =>
    one.toFixed(0)
  );
  return `${middle} ms (${low}–${high})`;
}

if (import.meta.main) {
  const [flag, value, ...rest] = Deno.args;
  const rounds = Number(value ?? 3);
  const valid = flag === undefined || (flag === "--rounds" && rest.length === 0);
  if (!valid || !Number.isInteger(rounds) || rounds < 1) {
    console.error(USAGE);
    Deno.exit(129);
  }
  Deno.exit(await measure(rounds) ? 0 : 1);
}
