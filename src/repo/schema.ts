/** Schema of registry.sqlite. A migration is never changed, only followed by another. */

export const REGISTRY_MIGRATIONS = [
  `CREATE TABLE repos (
     id TEXT PRIMARY KEY,
     name TEXT NOT NULL UNIQUE,
     remote TEXT NOT NULL,
     branch TEXT,
     ref TEXT,
     depth INTEGER,
     mountPoint TEXT NOT NULL UNIQUE,
     storeId TEXT NOT NULL,
     objectFormat TEXT NOT NULL,
     baseCommitOid TEXT NOT NULL,
     baseTreeOid TEXT NOT NULL,
     baseTimeSeconds INTEGER NOT NULL,
     uid INTEGER NOT NULL,
     gid INTEGER NOT NULL,
     wanted TEXT NOT NULL,
     history TEXT NOT NULL,
     acquiredAt TEXT NOT NULL,
     lastFetchAt TEXT,
     fetchResult TEXT NOT NULL
   ) STRICT;
   CREATE INDEX reposByStore ON repos (storeId);`,
  `ALTER TABLE repos ADD COLUMN xattrs INTEGER NOT NULL DEFAULT 0;`,
  // Of what was registered before, nothing is known to be ours.
  `ALTER TABLE repos ADD COLUMN madeFolders INTEGER NOT NULL DEFAULT 0;`,
  // The base follows the user's HEAD; the commit of the acquisition is one that the remote has.
  `ALTER TABLE repos ADD COLUMN acquiredCommitOid TEXT NOT NULL DEFAULT '';
   UPDATE repos SET acquiredCommitOid = baseCommitOid;
   ALTER TABLE repos ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;`,
  `ALTER TABLE repos ADD COLUMN remoteRefreshSeconds INTEGER DEFAULT 30;`,
  // What was mounted before is shown as it lies in the repository.
  `ALTER TABLE repos ADD COLUMN baseTreeId TEXT NOT NULL DEFAULT '';
   UPDATE repos SET baseTreeId = baseTreeOid;
   ALTER TABLE repos ADD COLUMN baseConversion TEXT NOT NULL DEFAULT 'some';`,
  `ALTER TABLE repos ADD COLUMN sourceRef TEXT NOT NULL DEFAULT '';
   UPDATE repos SET sourceRef = coalesce(ref, branch, 'HEAD');
   ALTER TABLE repos ADD COLUMN requiredCommitOid TEXT;
   CREATE TABLE preparations (
     id TEXT PRIMARY KEY,
     name TEXT NOT NULL UNIQUE,
     remote TEXT NOT NULL,
     branch TEXT,
     depth INTEGER,
     requiredCommitOid TEXT,
     mountPoint TEXT NOT NULL UNIQUE,
     madeFolders INTEGER NOT NULL,
     uid INTEGER NOT NULL,
     gid INTEGER NOT NULL,
     xattrs INTEGER NOT NULL,
     remoteRefreshSeconds INTEGER,
     wanted TEXT NOT NULL,
     askedAt TEXT NOT NULL,
     error TEXT
   ) STRICT;`,
  // 18 is 022.
  `ALTER TABLE repos ADD COLUMN umask INTEGER NOT NULL DEFAULT 18;
   ALTER TABLE repos ADD COLUMN readOnly INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE preparations ADD COLUMN umask INTEGER NOT NULL DEFAULT 18;
   ALTER TABLE preparations ADD COLUMN readOnly INTEGER NOT NULL DEFAULT 0;`,
  `ALTER TABLE repos ADD COLUMN tokenFile TEXT;
   ALTER TABLE preparations ADD COLUMN tokenFile TEXT;`,
  `ALTER TABLE repos ADD COLUMN gitDir TEXT;
   ALTER TABLE repos ADD COLUMN preparedGitDir INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE repos ADD COLUMN singleBranch INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE preparations ADD COLUMN gitDir TEXT;
   ALTER TABLE preparations ADD COLUMN preparedGitDir INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE preparations ADD COLUMN singleBranch INTEGER NOT NULL DEFAULT 0;`,
] as const;
