/**
 * The git server of tests as a process of its own, for benchmarks and for tests by shell:
 *
 *   deno run -A git_server_main.ts --root DIR [--port N] [--port-file F] [--rtt-ms 30] [--mbps 0]
 *       [--no-filter] [--allow-push] [--login USER:PASSWORD] [--set NAME=VALUE]...
 *
 * Prints its base URL, writes the port to the port file (atomically), and serves until SIGTERM or
 * SIGINT. Control, never delayed and never counted: GET /__ctl__/stats, /__ctl__/reset,
 * /__ctl__/log, /__ctl__/set?rttMs=30&down=1 (names of GitServerSettings; empty value = null).
 */
import { startGitServer } from "./git_server.ts";
import { type GitServerOptions, parseSettings } from "./git_server_api.ts";

function usage(message: string): never {
  console.error(`git_server_main: ${message}`);
  Deno.exit(129);
}

const settings: [string, string][] = [];
let root: string | undefined;
let portFile: string | undefined;
let port = 0;
const args = [...Deno.args];
while (args.length > 0) {
  const [flag = "", inline] = (args.shift() ?? "").split(/=(.*)/s);
  const value = () => inline ?? args.shift() ?? usage(`${flag} wants a value`);
  switch (flag) {
    case "--root":
      root = value();
      break;
    case "--port":
      port = Number(value());
      break;
    case "--port-file":
      portFile = value();
      break;
    case "--rtt-ms":
      settings.push(["rttMs", value()]);
      break;
    case "--mbps":
      settings.push(["mbps", value()]);
      break;
    case "--login":
      settings.push(["login", value()]);
      break;
    case "--no-filter":
      settings.push(["filter", "0"]);
      break;
    case "--allow-push":
      settings.push(["allowPush", "1"]);
      break;
    case "--set": {
      const [name = "", text = ""] = value().split(/=(.*)/s);
      settings.push([name, text]);
      break;
    }
    default:
      usage(`unknown argument ${flag}`);
  }
}
if (root === undefined) usage("--root is missing");

let options: GitServerOptions;
try {
  options = { ...parseSettings(settings), root, port, control: true };
} catch (error) {
  usage(error instanceof Error ? error.message : String(error));
}
const server = startGitServer(options);
if (portFile !== undefined) {
  await Deno.writeTextFile(portFile + ".tmp", String(server.port));
  await Deno.rename(portFile + ".tmp", portFile);
}
console.log(`http://127.0.0.1:${server.port}/`);

const stop = () => {
  server.close().then(() => Deno.exit(0));
};
Deno.addSignalListener("SIGTERM", stop);
Deno.addSignalListener("SIGINT", stop);
