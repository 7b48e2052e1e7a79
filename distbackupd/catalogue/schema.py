"""The tables, as numbered migrations. A catalogue's version is its ``PRAGMA user_version``.

About 230 bytes a file at ten million files, indexes included: folders' paths are stored once, owners, modes and
extended attributes once for all that share them. ``gone`` 0 marks the current version of a path.
"""

from __future__ import annotations

from distbackupd.catalogue import tallies

APPLICATION_ID = 0x64736264
"""``dsbd``: tells our catalogue from distbackup's database, which has the same file name."""

FIRST = """
CREATE TABLE source (
    virtual_path BLOB PRIMARY KEY,
    real_path BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE folder_setting (
    virtual_path BLOB PRIMARY KEY,
    settings TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE folder (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE            -- virtual, absolute; '/' is the root
) STRICT;

CREATE TABLE attributes (
    id INTEGER PRIMARY KEY,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    rdev INTEGER NOT NULL,
    xattrs BLOB NOT NULL,                -- see catalogue.encoding
    UNIQUE (mode, uid, gid, rdev, xattrs)
) STRICT;

CREATE TABLE holder_set (
    id INTEGER PRIMARY KEY,
    members TEXT NOT NULL UNIQUE         -- disk ids, ascending, joined by blanks; '' (id 1) is nobody
) STRICT;

CREATE TABLE object (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,           -- SHA-256
    size INTEGER NOT NULL,
    holders INTEGER NOT NULL DEFAULT 1 REFERENCES holder_set(id),
    priority INTEGER NOT NULL DEFAULT 1, -- the highest of its living files
    maxcopies INTEGER NOT NULL DEFAULT 0,-- the highest of its living files; 0: no limit
    orphaned_at INTEGER NOT NULL DEFAULT 0 -- unix seconds since when no living file refers to it; 0: it lives
) STRICT;

CREATE TABLE file (
    id INTEGER PRIMARY KEY,
    folder INTEGER NOT NULL REFERENCES folder(id),
    name BLOB NOT NULL,                  -- empty: the folder itself, if it is a source
    kind INTEGER NOT NULL,               -- model.files.EntryKind
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,              -- 0: the file system has no lasting inode numbers
    flags INTEGER NOT NULL,              -- model.files.EntryFlag
    attributes INTEGER NOT NULL REFERENCES attributes(id),
    target BLOB NOT NULL,                -- of a symbolic link
    priority INTEGER NOT NULL,
    maxcopies INTEGER NOT NULL,
    object INTEGER REFERENCES object(id),-- NULL for all but non-empty regular files
    seen INTEGER NOT NULL,               -- unix seconds
    gone INTEGER NOT NULL DEFAULT 0      -- unix seconds; 0: current
) STRICT;
CREATE UNIQUE INDEX file_current ON file(folder, name) WHERE gone = 0;
CREATE INDEX file_past ON file(folder, name) WHERE gone <> 0;
CREATE INDEX file_object ON file(object) WHERE object IS NOT NULL;
CREATE INDEX file_inode ON file(inode, device) WHERE object IS NOT NULL AND inode <> 0;

CREATE TABLE touched_object (
    id INTEGER PRIMARY KEY               -- lost a living file; recounted when a whole scan ends
) STRICT;

CREATE TABLE disk (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    capacity INTEGER NOT NULL,
    relative_path BLOB NOT NULL,
    filesystem_uuid TEXT,
    filesystem_type TEXT,
    last_path BLOB NOT NULL,
    added_at INTEGER NOT NULL,
    last_session_at INTEGER,
    catalogue_generation INTEGER NOT NULL DEFAULT -1,
    clean INTEGER NOT NULL DEFAULT 1
) STRICT;

CREATE TABLE removal (
    disk INTEGER NOT NULL REFERENCES disk(id),
    hash BLOB NOT NULL,                  -- struck from the holders, its file still to be removed
    PRIMARY KEY (disk, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE verified_folder (
    disk INTEGER NOT NULL REFERENCES disk(id),
    folder INTEGER NOT NULL,             -- the first three hexadecimal digits of a hash, 0 to 4095
    verified_at INTEGER NOT NULL,
    PRIMARY KEY (disk, folder)
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
    id INTEGER PRIMARY KEY,
    disk_name TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    outcome TEXT NOT NULL DEFAULT 'running',
    copied_objects INTEGER NOT NULL DEFAULT 0,
    copied_bytes INTEGER NOT NULL DEFAULT 0,
    deleted_objects INTEGER NOT NULL DEFAULT 0,
    deleted_bytes INTEGER NOT NULL DEFAULT 0,
    sentence TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE fact (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO holder_set (id, members) VALUES (1, '');
INSERT INTO folder (id, path) VALUES (1, CAST('/' AS BLOB));
INSERT INTO fact (key, value) VALUES ('generation', '0');
"""

LUKS_CONTAINERS = """
ALTER TABLE disk ADD COLUMN luks_uuid TEXT;
"""

WANTED_COPIES_AND_PLACES = """
ALTER TABLE file ADD COLUMN copies INTEGER NOT NULL DEFAULT 0;   -- wanted; 0: as usual
ALTER TABLE object ADD COLUMN copies INTEGER NOT NULL DEFAULT 0; -- the highest of its living files
ALTER TABLE disk ADD COLUMN location TEXT NOT NULL DEFAULT '';
ALTER TABLE disk ADD COLUMN block_size INTEGER NOT NULL DEFAULT 4096;
ALTER TABLE disk ADD COLUMN largest_file INTEGER NOT NULL DEFAULT 0; -- 0: no limit of its own
ALTER TABLE disk ADD COLUMN overhead INTEGER NOT NULL DEFAULT 4096;  -- bytes an object takes beside its blocks
CREATE TABLE holding_total (                                         -- see catalogue.totals
    holders INTEGER NOT NULL,
    living INTEGER NOT NULL,
    block_size INTEGER NOT NULL,
    objects INTEGER NOT NULL,
    size INTEGER NOT NULL,
    saturated INTEGER NOT NULL,
    rounded INTEGER NOT NULL,
    PRIMARY KEY (holders, living, block_size)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_gone ON file(gone) WHERE gone <> 0 AND object IS NOT NULL;
"""

ROTTEN_FILES = """
CREATE TABLE rotten_file (
    file INTEGER PRIMARY KEY REFERENCES file(id),
    found_at INTEGER NOT NULL,
    found BLOB NOT NULL,                 -- SHA-256 of what the source holds instead; empty: it cannot be read
    ctime_ns INTEGER NOT NULL            -- of the source, when that was found
) STRICT;
"""

LOOKED_AT = """
-- An index of a hash in place of one of the values: extended attributes, up to 128 KiB of them, are stored once.
CREATE TEMP TABLE former_attributes AS SELECT * FROM attributes;
DROP TABLE attributes;
CREATE TABLE attributes (
    id INTEGER PRIMARY KEY,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    rdev INTEGER NOT NULL,
    xattrs BLOB NOT NULL,                -- see catalogue.encoding, also for hash_xattrs
    xattrs_hash BLOB NOT NULL,
    UNIQUE (mode, uid, gid, rdev, xattrs_hash)
) STRICT;
INSERT INTO attributes SELECT id, mode, uid, gid, rdev, xattrs, hash_xattrs(xattrs) FROM former_attributes;
DROP TABLE former_attributes;
ALTER TABLE file ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0; -- 0: not known, never looked at
DROP INDEX file_inode;               -- an inode number alone tells nearly as much, and takes less
CREATE INDEX file_inode ON file(inode) WHERE object IS NOT NULL AND inode <> 0;
CREATE TABLE unconfirmed (
    file INTEGER PRIMARY KEY REFERENCES file(id), -- a current version whose content is believed and still to be read again
    was_read INTEGER NOT NULL            -- 1: it was, but so soon after it changed that it may have changed again
) STRICT;
CREATE TABLE unconfirmed_total (files INTEGER NOT NULL, size INTEGER NOT NULL) STRICT; -- one row, kept by the triggers
-- What was found rotten and written since is a change; what was not is as it was when its content was recorded.
DELETE FROM rotten_file WHERE ctime_ns / 1000000000 > (SELECT seen FROM file WHERE file.id = rotten_file.file);
UPDATE file SET ctime_ns = (SELECT ctime_ns FROM rotten_file WHERE rotten_file.file = file.id)
    WHERE id IN (SELECT file FROM rotten_file);
INSERT INTO unconfirmed SELECT id, 0 FROM file WHERE gone = 0 AND object IS NOT NULL AND ctime_ns = 0;
INSERT INTO unconfirmed_total SELECT count(*), coalesce(sum(size), 0)
    FROM unconfirmed JOIN file ON file.id = unconfirmed.file;
CREATE TRIGGER unconfirmed_more AFTER INSERT ON unconfirmed BEGIN
    UPDATE unconfirmed_total SET files = files + 1, size = size + (SELECT size FROM file WHERE id = new.file);
END;
CREATE TRIGGER unconfirmed_less AFTER DELETE ON unconfirmed BEGIN
    UPDATE unconfirmed_total SET files = files - 1, size = size - (SELECT size FROM file WHERE id = old.file);
END;
CREATE TRIGGER version_ended AFTER UPDATE OF gone ON file WHEN old.gone = 0 AND new.gone <> 0 BEGIN
    DELETE FROM unconfirmed WHERE file = old.id;
END;
CREATE TABLE problem (
    folder INTEGER NOT NULL REFERENCES folder(id),
    name BLOB NOT NULL,                  -- empty: the folder itself
    kind INTEGER NOT NULL,               -- model.files.ProblemKind
    size INTEGER NOT NULL,
    since INTEGER NOT NULL,              -- unix seconds
    tries INTEGER NOT NULL,              -- scans that met it
    changing INTEGER NOT NULL,           -- 1: it could not be read because it was written meanwhile
    reason TEXT NOT NULL,
    PRIMARY KEY (folder, name, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE account (
    is_group INTEGER NOT NULL,
    number INTEGER NOT NULL,             -- uid or gid
    since INTEGER NOT NULL,              -- unix seconds
    name TEXT NOT NULL,                  -- from then on
    PRIMARY KEY (is_group, number, since)
) STRICT, WITHOUT ROWID;
CREATE TABLE listed_folder (
    disk INTEGER NOT NULL REFERENCES disk(id),
    folder INTEGER NOT NULL,             -- the first three hexadecimal digits of a hash, 0 to 4095
    mtime_ns INTEGER NOT NULL,           -- of that folder on the disk when its last session left it; 0: it was not there
    listed_at INTEGER NOT NULL,          -- unix seconds; 0: never
    PRIMARY KEY (disk, folder)
) STRICT, WITHOUT ROWID;
ALTER TABLE disk ADD COLUMN token TEXT NOT NULL DEFAULT '';      -- what its last session left on it
ALTER TABLE disk ADD COLUMN next_token TEXT NOT NULL DEFAULT ''; -- what a session that died may have left instead
ALTER TABLE disk ADD COLUMN most_objects INTEGER NOT NULL DEFAULT 0; -- its file system has room for so many; 0: no limit
ALTER TABLE disk ADD COLUMN fillable INTEGER NOT NULL DEFAULT -1; -- bytes that objects may take, as it last told; -1: never
ALTER TABLE disk ADD COLUMN folder_on TEXT NOT NULL DEFAULT '';   -- file system of a folder that is no disk; '': it is one
ALTER TABLE disk ADD COLUMN folder_inode INTEGER NOT NULL DEFAULT 0; -- of that folder; 0: there are no lasting ones
ALTER TABLE disk ADD COLUMN declined INTEGER NOT NULL DEFAULT 0; -- bytes for which its last session found no room
"""

MIGRATIONS: tuple[str, ...] = (FIRST, LUKS_CONTAINERS, WANTED_COPIES_AND_PLACES, ROTTEN_FILES, LOOKED_AT + tallies.MAKE)
"""Migration ``n`` (from 1) brings version ``n - 1`` to version ``n``. Only ever append."""

VERSION = len(MIGRATIONS)

NOBODY = 1
"""Id of the empty holder set."""

WAITING = """
CREATE TEMP TABLE IF NOT EXISTS waiting (
    ticket INTEGER PRIMARY KEY,
    folder INTEGER NOT NULL,
    replaces INTEGER,
    name BLOB NOT NULL,
    kind INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    attributes INTEGER NOT NULL,
    target BLOB NOT NULL,
    priority INTEGER NOT NULL,
    maxcopies INTEGER NOT NULL,
    copies INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS temp.waiting_order ON waiting(device, inode, ticket);
CREATE TEMP TABLE IF NOT EXISTS hashed (ticket INTEGER PRIMARY KEY, hash BLOB NOT NULL, settled INTEGER NOT NULL);
"""
"""What a scan saw and did not hash yet. Temporary: after a crash the next scan finds the same files again, for none of
them has a current version with its size and time."""
