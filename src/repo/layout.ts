/**
 * Where everything lies below the state root, and with which rights (design section 8).
 *
 *     <state root>/                 0711
 *       registry.sqlite             0600  registered repositories
 *       control.sock                0600  the daemon's API
 *       daemon.lock                 0600  flock: one daemon per state root
 *       daemon.log                  0600  of a daemon in the background
 *       empty/                      0711  stays empty: the work tree of our git processes
 *       credentials/<repo id>       0600  owned by the mount's owner; directory 0711
 *       credentials/<repo id>.token       a link to a token file of somebody's (token_file.ts)
 *       stores/<store id>.lock      0600  flock: one process makes, fetches or removes
 *       stores/<store id>.history   0600  flock: one process brings the history in
 *       stores/<store id>/          0711  one per remote (and depth)
 *         history-full              0644  exists when all branches and tags have their history
 *         git/                            bare partial repository, ours; objects readable
 *         base.sqlite               0600  trees and sizes
 *         attributes/<repo id>/     0700  staging of attributes files
 *         staging/<n>/              0700  fetches land here and are then moved into git/
 *         blobs/                    0700  big blobs being served, as files
 *       gitdirs/<repo id>/          0700  the user's git directory, owned by the mount's owner;
 *                                         with --git-dir it lies there, and here only until then
 *       convert/<repo id>/          0711  where files are converted as the owner (converter.ts)
 *         owner.gitconfig           0644  names the owner's configuration files
 *         trees/                    0700  the owner's: indexes of trees
 *         plain/, drivers/          0711  each a git directory of ours, and a scratch work tree of
 *                                         the owner's (0700)
 *       repos/<repo id>.lock        0600  flock: an acquisition is at work
 *       repos/<repo id>/            0700  what belongs to one mount
 *         view/                           private bare directory for object reads, with what was
 *                                         imported from the user's git directory
 *         shallow                   0600  lines of the store's that the user's shallow file was given
 *         converted/                0700  files as a checkout writes them, by id
 *           made/                   0700  by git alone; only those of this boot
 *           kept/                   0700  by drivers
 *         contexts/                 0700  what ids with a suffix mean (src/snapshot/contexts.ts)
 *         overlay/                  0700  what was changed in the mount (src/overlay/README.md)
 *         switch.json               0600  a switch is under way (switch_intent.ts)
 *         git-dir.json              0600  the user's git directory lies elsewhere (git_dir.ts)
 */

import { TOKEN_LINK_SUFFIX } from "../git/token_file.ts";
import type { HostPath } from "../path.ts";

export interface StoreLayout {
  readonly dir: HostPath;
  readonly gitDir: HostPath;
  readonly basePath: HostPath;
  readonly stagingDir: HostPath;
  readonly blobsDir: HostPath;
  readonly attributesDir: HostPath;
  readonly lockPath: HostPath;
  readonly historyLockPath: HostPath;
  readonly historyFullPath: HostPath;
}

export interface RepoLayout {
  readonly dir: HostPath;
  readonly viewDir: HostPath;
  readonly userGitDir: HostPath;
  readonly convertDir: HostPath;
  readonly convertedDir: HostPath;
  readonly contextsDir: HostPath;
  /** Absent: nothing has a suffix. */
  readonly contextsPath: HostPath;
  readonly credentialsPath: HostPath;
  readonly tokenLinkPath: HostPath;
  readonly lockPath: HostPath;
  readonly shallowPath: HostPath;
  readonly overlayDir: HostPath;
  /** The overlay's rows; absent: nothing was ever changed. */
  readonly overlayPath: HostPath;
  readonly switchIntentPath: HostPath;
  readonly placedPath: HostPath;
}

export interface Layout {
  readonly stateRoot: HostPath;
  readonly registryPath: HostPath;
  readonly socketPath: HostPath;
  readonly lockPath: HostPath;
  readonly logPath: HostPath;
  readonly emptyDir: HostPath;
  readonly storesDir: HostPath;
  readonly reposDir: HostPath;
  readonly userGitDirsDir: HostPath;
  readonly convertDirsDir: HostPath;
  readonly credentialsDir: HostPath;
  store(storeId: string): StoreLayout;
  repo(repoId: string): RepoLayout;
}

export function layoutOf(stateRoot: HostPath): Layout {
  const at = (...parts: string[]) => [stateRoot, ...parts].join("/") as HostPath;
  return {
    stateRoot,
    registryPath: at("registry.sqlite"),
    socketPath: at("control.sock"),
    lockPath: at("daemon.lock"),
    logPath: at("daemon.log"),
    emptyDir: at("empty"),
    storesDir: at("stores"),
    reposDir: at("repos"),
    userGitDirsDir: at("gitdirs"),
    convertDirsDir: at("convert"),
    credentialsDir: at("credentials"),
    store: (id) => ({
      dir: at("stores", id),
      gitDir: at("stores", id, "git"),
      basePath: at("stores", id, "base.sqlite"),
      stagingDir: at("stores", id, "staging"),
      blobsDir: at("stores", id, "blobs"),
      attributesDir: at("stores", id, "attributes"),
      lockPath: at("stores", `${id}.lock`),
      historyLockPath: at("stores", `${id}.history`),
      historyFullPath: at("stores", id, "history-full"),
    }),
    repo: (id) => ({
      dir: at("repos", id),
      viewDir: at("repos", id, "view"),
      userGitDir: at("gitdirs", id),
      convertDir: at("convert", id),
      convertedDir: at("repos", id, "converted"),
      contextsDir: at("repos", id, "contexts"),
      contextsPath: at("repos", id, "contexts", "contexts.sqlite"),
      credentialsPath: at("credentials", id),
      tokenLinkPath: at("credentials", `${id}${TOKEN_LINK_SUFFIX}`),
      lockPath: at("repos", `${id}.lock`),
      shallowPath: at("repos", id, "shallow"),
      overlayDir: at("repos", id, "overlay"),
      overlayPath: at("repos", id, "overlay", "overlay.sqlite"),
      switchIntentPath: at("repos", id, "switch.json"),
      placedPath: at("repos", id, "git-dir.json"),
    }),
  };
}
