/** The program's entry. */

import { main } from "./src/cli/main.ts";

// Workers, timers and sockets may be left: the exit does not wait for them.
Deno.exit(await main(Deno.args));
