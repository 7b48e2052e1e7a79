#!/usr/bin/env python3
"""Restore the files of a distbackup disk with nothing but python3 (3.8 or newer).

    python3 distbackup-restore.py DEST              restore everything that lies on this disk to the folder DEST
    python3 distbackup-restore.py DEST PATTERN      only what matches, such as /photos/2024 or '*.jpg'
    python3 distbackup-restore.py --at DATE DEST    as it was known then: 2026-11-01 (its end), '2026-11-01 14:30'
    python3 distbackup-restore.py --list [PATTERN]  print what the backup holds, and which disks hold it

Run it again with the next disk and the same DEST: what is right there already is left alone. As root it brings back
owners (by name, where this machine knows it), capabilities, device nodes and flags of chattr too. The disk is only read;
what lies on it may be for root alone to read: then run this as root. Where others may write in DEST, owners, privileges
and more rights are given only to what this script wrote itself: what lacks them is replaced by a copy.
Exit status: 0 everything meant is restored, 2 wrong usage or no backup disk, 3 some files are on other disks or could not
be restored.
"""

# This file stands alone on purpose: it says again, in plain Python 3.8, what the program's own restore does.

import argparse
import collections
import contextlib
import ctypes
import datetime
import errno
import fcntl
import fnmatch
import functools
import grp
import hashlib
import os
import pathlib
import pwd
import re
import sqlite3
import stat
import struct
import sys
import time
import unicodedata

APPLICATION_ID = 0x64736264
FILE, FOLDER, SYMLINK, FIFO, CHARACTER_DEVICE, BLOCK_DEVICE = range(6)
IMPOSSIBLE = -1
FORMATS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK)
KINDS = ("file", "folder", "symbolic link", "fifo", "device node", "device node")
LINKED, SPARSE = 1, 2
# Flags of chattr lie eight bits higher; while a file or folder is locked (immutable, append-only) nothing changes it.
CHATTR, CHATTR_KEPT, LOCKS, BEFORE_CONTENT = 8, 0x83C4FF, 0x30, 0x800404
LONG = struct.calcsize("l")
GET_FLAGS, SET_FLAGS = (direction << 30 | LONG << 16 | ord("f") << 8 | number for direction, number in ((2, 1), (1, 2)))
CHUNK, BLOCK = 1 << 20, 4096
ZEROS = bytes(BLOCK)
TIME_STEPS = (1, 100, 1000, 10**7, 10**9, 2 * 10**9)
HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
say = functools.partial(print, flush=True)
ACL = ("system.posix_acl_access", "system.posix_acl_default")
DEAD = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE)  # or only unable to do just this
UNFINISHED = "trusted.distbackupd.unfinished"  # as the program marks folders of its own where others may write
LISTINGS, OUTCOMES = 16, 100000
NAMES_TOLD = 20
PATIENCE = 1800  # seconds that a catalogue may think about one line: sorting ten million takes minutes, some are endless
TABLES = {"folder", "file", "attributes", "object", "holder_set", "disk"}

ENTRIES = """
SELECT folder.path, file.name, file.kind, file.size, file.mtime_ns, file.device, file.inode, file.flags,
       attributes.mode, attributes.uid, attributes.gid, attributes.rdev, attributes.xattrs,
       file.target, object.hash, coalesce(holder_set.members, '')
FROM folder CROSS JOIN file ON file.folder = folder.id
JOIN attributes ON attributes.id = file.attributes
LEFT JOIN object ON object.id = file.object
LEFT JOIN holder_set ON holder_set.id = object.holders
WHERE """
NOW = ("file.gone = 0",)
THEN = ("file.gone = 0 AND file.seen <= {0}", "file.gone <> 0 AND file.gone > {0} AND file.seen <= {0}")
STRICT_TABLES = (3, 37)  # what SQLite knows their keyword since; an older one reads them when it is told not to mind

FIELDS = "path kind size mtime_ns device inode flags mode uid gid rdev xattrs target hash holders"
Entry = collections.namedtuple("Entry", FIELDS)
Looks = collections.namedtuple("Looks", "uid gid mode xattrs flags")


class Trouble(Exception):
    """The whole restore ends, with this sentence."""


class Refused(Trouble):
    """Only this entry is not restored, for this reason."""


class Twin(Exception):
    """The destination takes the entry's name for that of another one; its path, or None."""

    def __init__(self, path):
        super().__init__()
        self.path = path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="DEST [PATTERN]")
    parser.add_argument("--list", action="store_true", help="print paths, sizes and disks; restore nothing")
    parser.add_argument("--at", metavar="DATE", type=moment, help="as it was known then: 2026-11-01, '2026-11-01 14:30'")
    parser.add_argument("--disk", metavar="PATH", help="where the backup disk is (default: where this script lies)")
    parser.add_argument("--catalogue", metavar="FILE", help="another catalogue than this disk's own, which may be damaged")
    parser.add_argument("--overwrite", action="store_true", help="replace files of other content (default: leave them)")
    parser.add_argument("--numeric-owner", action="store_true", help="owners by number, whatever their names were")
    options = parser.parse_args()
    words = options.words if options.list else options.words[1:]
    if (not options.list and not options.words) or len(words) > 1:
        parser.error("name the folder to restore to, and one pattern at the most")
    disk = os.fsencode(options.disk or os.path.dirname(os.path.abspath(__file__)))
    matches = matcher(words[0] if words else None)
    try:
        own_catalogue = os.path.join(os.fsdecode(disk), "distbackup.sqlite")
        catalogue = Catalogue(options.catalogue or own_catalogue, options.at, 0 if options.catalogue else os.O_NOFOLLOW)
        disks = catalogue.connection.execute("SELECT CAST(id AS TEXT), name FROM disk")
        names = {holder: shown(str(name).encode("utf-8", "backslashreplace")) for holder, name in disks}
        if options.list:
            for entry in catalogue.entries(matches):
                holders = ",".join(sorted(names.get(holder, "?") for holder in entry.holders)) or "-"
                say(f"{'-dlpcb'[entry.kind : entry.kind + 1] or '?'} {entry.size:15d}  {holders:20}  {shown(entry.path)}")
            return 0
        destination, own = os.path.realpath(os.fsencode(options.words[0])), os.path.realpath(disk)
        if destination == own or destination.startswith(own.rstrip(b"/") + b"/"):
            raise Trouble("the destination lies on the backup disk itself; choose a folder elsewhere")
        restore = Restore(own, destination, options.overwrite, catalogue)
        warn_of_others(destination)
        if not options.numeric_owner:
            restore.owners = Owners(*catalogue.accounts(options.at))
        return restore.run(matches, names)
    except (Trouble, sqlite3.Error, UnicodeError, OverflowError) as error:  # SQLite quotes what it cannot read
        damaged = "" if isinstance(error, Trouble) else "the catalogue is damaged, use another disk's with --catalogue: "
        sys.stderr.write(f"distbackup-restore: {damaged}{shown(str(error).encode('utf-8', 'backslashreplace'))}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"distbackup-restore: {error}\n")
        return 2
    except (KeyboardInterrupt, BrokenPipeError):
        sys.stderr.write("\ninterrupted; what is restored is whole and stays, the same command goes on there\n")
        os._exit(3)  # not through Python's end, which would complain about the closed pipe


class Catalogue:
    """A disk's copy of the catalogue, only read, as it was known at a moment (unix seconds; None: now)."""

    def __init__(self, path, at, more_flags):
        path = os.path.abspath(path)
        try:
            self.file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | more_flags)  # a FIFO would let us wait
            is_file = stat.S_ISREG(os.fstat(self.file).st_mode)
        except PermissionError as error:
            raise Trouble(f"{shown(os.fsencode(path))} is for root to read: run this as root") from error
        except OSError:
            is_file = False
        if not is_file:
            raise Trouble(f"there is no {shown(os.fsencode(path))}; say where the backup disk is with --disk")
        self.connection = sqlite3.connect(pathlib.Path(path).as_uri() + "?mode=ro&immutable=1", uri=True)
        self.asked = time.monotonic()
        self.connection.set_progress_handler(lambda: time.monotonic() - self.asked > PATIENCE, 1000000)
        if hasattr(self.connection, "setlimit"):
            self.connection.setlimit(0, 64 << 20)  # bytes of one value
        self.connection.execute("PRAGMA trusted_schema=OFF")
        if sqlite3.sqlite_version_info < STRICT_TABLES:
            self.connection.execute("PRAGMA writable_schema=ON")
        application = self.connection.execute("PRAGMA application_id").fetchone()[0]
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID or version < 1:
            raise Trouble(f"{shown(os.fsencode(path))} is no catalogue of distbackupd; nothing was restored")
        self.tables = {
            name
            for name, kind, text in self.connection.execute("SELECT name, type, sql FROM sqlite_master")
            if kind == "table" and not str(text).upper().startswith("CREATE VIRTUAL")
        }
        if TABLES - self.tables:
            raise Trouble(
                f"{shown(os.fsencode(path))} is damaged, use another disk's with --catalogue; nothing was restored"
            )
        self.conditions = NOW if at is None else [condition.format(at) for condition in THEN]

    def accounts(self, at):
        """Names by number, of users and of groups, as they were at the moment; none in a catalogue from before them."""
        names = ({}, {})
        if "account" in self.tables:
            query = "SELECT is_group, number, since, name FROM account ORDER BY is_group, number, since"
            for is_group, number, since, name in self.connection.execute(query):
                if isinstance(name, str) and (at is None or since <= at or number not in names[bool(is_group)]):
                    names[bool(is_group)][number] = name
        return names

    def never_kept(self, matches):
        """Paths of what was seen and is of a kind that no backup keeps; known of the present only."""
        query = "SELECT path, name FROM problem JOIN folder ON folder.id = folder WHERE kind = 2 ORDER BY path, name"
        if self.conditions == NOW and "problem" in self.tables:
            for folder, name in self.connection.execute(query):
                path = folder.rstrip(b"/") + b"/" + name
                if matches(path):
                    yield path

    def knows(self, path):
        """Whether there is such an entry."""
        folder, _, name = path.rpartition(b"/")
        query = "SELECT 1 FROM folder JOIN file ON file.folder = folder.id WHERE path = ? AND name = ? AND {}"
        return any(
            self.connection.execute(query.format(condition), (folder or b"/", name)).fetchone()
            for condition in self.conditions
        )

    def entries(self, matches, folders_deepest_first=False):
        only, descending = (" AND file.kind = 1", " DESC") if folders_deepest_first else ("", "")
        query = " UNION ALL ".join(ENTRIES + condition + only for condition in self.conditions)
        self.asked = time.monotonic()
        for folder, name, *row in self.connection.execute(f"{query} ORDER BY 1{descending}, 2{descending}"):
            self.asked = time.monotonic()
            if not isinstance(folder, bytes) or not isinstance(name, bytes):
                raise Trouble("the catalogue is damaged, use another disk's with --catalogue: it holds a name that is none")
            path = folder if not name else folder.rstrip(b"/") + b"/" + name
            if matches(path):
                yield checked(Entry(path, *row[:10], decode_xattrs(row[10]), *row[11:13], str(row[13]).split()))
                self.asked = time.monotonic()


def checked(entry):
    """The entry, or one of the kind IMPOSSIBLE: the catalogue may come from somebody who wishes us ill."""
    numbers = (entry.kind, entry.size, entry.mtime_ns, entry.device, entry.inode, entry.flags, entry.rdev)
    right = all(isinstance(number, int) for number in (*numbers, entry.mode, entry.uid, entry.gid))
    right = right and entry.size >= 0 and entry.flags >= 0 and entry.rdev >= 0 and 0 <= entry.mode <= 0o7777
    right = right and 0 <= entry.uid < 2**32 - 1 and 0 <= entry.gid < 2**32 - 1
    right = right and isinstance(entry.target, bytes) and (entry.hash is None or isinstance(entry.hash, bytes))
    return entry if right else entry._replace(kind=IMPOSSIBLE, size=0, flags=0, mtime_ns=0, uid=0, gid=0, xattrs=[])


def moment(text):
    """Unix seconds of a date; a day alone means its end."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        text += " 23:59:59"
    return int(datetime.datetime.fromisoformat(text).timestamp())


def decode_xattrs(blob):
    xattrs, position = [], 0
    blob = blob if isinstance(blob, bytes) else b""
    while position + 6 <= len(blob):
        name_length, value_length = struct.unpack_from("<HI", blob, position)
        start = position + 6
        position = start + name_length + value_length
        xattrs.append((os.fsdecode(blob[start : start + name_length]), blob[start + name_length : position]))
    return xattrs


def matcher(pattern):
    """Whether a path matches the pattern, or lies below a folder that does. ``*`` matches slashes too."""
    if pattern is None:
        return lambda path: True
    text = pattern if pattern[:1] in ("/", "*") else "/" + pattern
    text = text.rstrip("/")
    regex = re.compile("{}|{}".format(fnmatch.translate(text or "/"), fnmatch.translate(text + "/*")))
    return lambda path: regex.match(os.fsdecode(path)) is not None


def shown(path):
    """A path on one line, whatever is in it."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class Owners:
    """Whose number it is here: that of the same name if there is one, else the one that it was."""

    def __init__(self, users, groups):
        self.unknown = set()
        self.known = {}
        self.lookups = (
            (users, lambda name: pwd.getpwnam(name).pw_uid),
            (groups, lambda name: grp.getgrnam(name).gr_gid),
        )

    def number(self, is_group, number):
        key = (is_group, number)
        if key not in self.known:
            self.known[key] = number
            names, find = self.lookups[is_group]
            try:
                self.known[key] = find(names[number]) if number in names else number
            except (KeyError, OSError, ValueError):
                self.unknown.add(shown(os.fsencode(names[number])))
        return self.known[key]

    def given(self, entry):
        xattrs = [(name, self.access_list(value) if name in ACL else value) for name, value in entry.xattrs]
        return entry._replace(uid=self.number(False, entry.uid), gid=self.number(True, entry.gid), xattrs=xattrs)

    def access_list(self, value):
        """The same for numbers in an ACL, where tag 2 is a named user and tag 8 a named group."""
        if value[:4] != struct.pack("<I", 2) or len(value) % 8 != 4:
            return value
        rules = struct.iter_unpack("<HHI", value[4:])
        return value[:4] + b"".join(
            struct.pack("<HHI", tag, mode, self.number(tag == 8, number) if tag in (2, 8) else number)
            for tag, mode, number in rules
        )


class Held:
    """What stands at a name, of whatever kind, as the same one for as long as it is looked at; ``handle`` leads to it."""

    def __init__(self, folder, name):
        self.descriptor = os.open(name, HOLD, dir_fd=folder)
        self.handle = f"/proc/self/fd/{self.descriptor}"
        self.state = os.fstat(self.descriptor)
        self.identity = identity_of(self.state)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self.descriptor)


def hold(folder, name, stack):
    """What stands there until the stack goes; None: nothing."""
    try:
        return stack.enter_context(Held(folder, name))
    except FileNotFoundError:
        return None


def identity_of(state):
    return state.st_dev, state.st_ino


def may_others_write(state, own):
    return state.st_uid not in (0, own) or state.st_mode & 0o022 != 0


class Restore:
    def __init__(self, disk, destination, overwrite, catalogue):
        self.overwrite = overwrite
        self.catalogue = catalogue
        self.owners = None
        self.listings = {}
        self.spelled = {}
        self.closed = {}
        self.theirs = set()  # folders of somebody else, into which nothing is put
        self.seen = {}  # where others may rename things: which folder it is, and whether it is given nothing more
        self.made = set()
        self.locked = {}
        self.outcomes = {}
        self.placed = None
        try:
            self.disk = os.open(disk, OPEN_FOLDER)
            root = open_destination(destination)
            self.root_is_new = not os.listdir(f"/proc/self/fd/{root}")
            self.open_folders = {b"/": root}
        except OSError as error:
            raise Trouble(f"{shown(destination)} cannot be used: {error.strerror}") from error
        self.destination = destination
        self.made_on_the_way = set()
        self.first_names = {}
        self.counts, self.lost, self.needed = collections.Counter(), collections.Counter(), collections.Counter()
        self.bytes = 0

    def run(self, matches, names):
        told = started = time.monotonic()
        try:
            for entry in self.catalogue.entries(matches):
                try:
                    self.counts[self.restore(self.owned(entry))] += 1
                except Twin as twin:
                    self.not_possible(entry, twin.path)
                except (Refused, OSError, ValueError, OverflowError) as error:
                    self.failed(entry, error)
                if time.monotonic() - told >= 10:
                    told = time.monotonic()
                    say(f"{self.counts['restored']} restored, {self.bytes // 10**6} MB; at {shown(entry.path)}")
        finally:
            self.finish(matches)
        self.flush()
        self.report(names, time.monotonic() - started)
        never_kept = [shown(path) for path in self.catalogue.never_kept(matches)]
        if never_kept:
            more = f" and {len(never_kept) - NAMES_TOLD} more" if len(never_kept) > NAMES_TOLD else ""
            say(f"no backup keeps such things as sockets: {', '.join(never_kept[:NAMES_TOLD])}{more}")
        return 3 if any(self.counts[kind] for kind in ("missing", "failed", "in the way", "not possible")) else 0

    def flush(self):
        """Only what it wrote to: os.sync() waits for every disk of the machine, and so for ever for one that hangs."""
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.open_folders[b"/"])
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(root):
                code = ctypes.get_errno()
                raise Trouble(
                    f"{shown(self.destination)}: {os.strerror(code)}; not all that was restored reached its disk: look at "
                    "that, and run this again"
                )
        finally:
            os.close(root)

    def owned(self, entry):
        return self.owners.given(entry) if self.owners else entry

    def report(self, names, seconds):
        counts = self.counts
        amount = f"{self.bytes // 10**6} MB, {seconds:.0f} s"
        say(f"{counts['restored']} restored ({amount}), {counts['left alone']} were right already")
        if counts["in the way"]:
            say(f"{counts['in the way']} not restored because something else is in place (see --overwrite)")
        if counts["failed"]:
            say(f"{counts['failed']} failed; other disks may hold good copies")
        if counts["not possible"]:
            say(f"{counts['not possible']} not possible here: the destination takes names for one that are two")
        if self.owners and self.owners.unknown:
            unknown = ", ".join(sorted(self.owners.unknown))
            say(f"owner names that this machine does not know: {unknown}; their numbers were kept")
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(self.lost.items()) if count)
        if kinds:
            say(f"the destination could not keep: {kinds}")
        if counts["missing"]:
            say(f"{counts['missing']} files are not on this disk. Run the script of these disks too, with the same folder:")
        for holder, count in self.needed.most_common():
            say(f"    {names.get(holder, 'an unknown disk'):20} holds {count} of them")
        if counts["unheld"]:
            say(f"    {counts['unheld']} of them are on no disk at all")

    def failed(self, entry, error):
        code = getattr(error, "errno", None)
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise Trouble(f"{shown(self.destination)}: {error.strerror}; what was restored stays")
        if code in DEAD and not self.answers():
            raise Trouble(f"{shown(self.destination)} does not answer: {error.strerror}; what was restored stays")
        kind = "in the way" if code == errno.ENOTDIR else "failed"
        self.counts[kind] += 1
        if self.counts[kind] <= NAMES_TOLD:
            reason = getattr(error, "strerror", None) or str(error)
            say(f"{shown(entry.path)}: not restored: {'something else is in place' if kind == 'in the way' else reason}")

    def answers(self):
        """Whether the destination takes a small file of our own."""
        name = temporary_name(b"/")
        try:
            root = self.open_folders[b"/"]
            attempt(os.unlink, name, dir_fd=root)
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=root)
            try:
                os.write(descriptor, b"?")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
                attempt(os.unlink, name, dir_fd=root)
        except PermissionError:
            return True
        except OSError:
            return False
        return True

    # Names that the destination takes for one, though they are two in the backup: what its folders list tells.

    def not_possible(self, entry, owner):
        if entry.kind == FOLDER:
            self.closed[entry.path] = owner
        self.counts["not possible"] += 1
        if self.counts["not possible"] <= NAMES_TOLD:
            other = f"that of {shown(owner)}" if owner else "another one"
            say(f"{shown(entry.path)}: not possible here: the destination takes its name for {other}, which stays")

    def stored(self, path, folder, name, state):
        """The name under which the folder lists what stands there; raises Twin if that is another entry's."""
        found = None
        for again in (False, True):
            if again or path not in self.listings:
                try:
                    self.listings[path] = set(os.listdir(b"/proc/self/fd/%d" % folder))
                except OSError:
                    return name
                if len(self.listings) > LISTINGS:
                    del self.listings[next(iter(self.listings))]
            names = self.listings[path]
            if name in names:
                return name
            alike = [listed for listed in names if folded(listed) == folded(name)]
            found = next((listed for listed in alike if is_same(folder, listed, state, True)), None)
            if found is not None:
                break
        if found is None:
            found = next((listed for listed in sorted(names) if is_same(folder, listed, state, False)), None)
        if found is None:
            raise Twin(None)
        other = path.rstrip(b"/") + b"/" + found
        mine = path.rstrip(b"/") + b"/" + name
        # Where no entry has the listed name, the destination spells names its own way; it is whose came first.
        owner = other if self.catalogue.knows(other) else self.spelled.setdefault(other, mine)
        if owner != mine:
            raise Twin(owner)
        return found

    # Folders: reached from descriptor to descriptor without following links, so nothing leads outside.

    def folder(self, path, make=True):
        names, known = [], path
        while known not in self.open_folders:
            known, _, name = known.rpartition(b"/")
            known = known or b"/"
            check_name(name)
            names.append(name)
        descriptor = self.open_folders[known]
        for name in reversed(names):
            known = known.rstrip(b"/") + b"/" + name
            try:
                above, descriptor = descriptor, os.open(name, OPEN_FOLDER, dir_fd=descriptor)
                try:
                    self.stored(known.rpartition(b"/")[0] or b"/", above, name, os.fstat(descriptor))
                except Twin:
                    os.close(descriptor)
                    raise
            except FileNotFoundError:
                if not make:
                    raise
                os.mkdir(name, 0o700, dir_fd=descriptor)
                self.take_new(known, descriptor, name)
                self.made_on_the_way.add(known)
                descriptor = os.open(name, OPEN_FOLDER, dir_fd=descriptor)
            if self.seen and self.seen.get(known, (None,))[0] not in (None, identity_of(os.fstat(descriptor))):
                os.close(descriptor)
                raise Refused("another folder took the place of the one above it meanwhile")
            self.open_folders[known] = descriptor
            if len(self.open_folders) > 48:
                os.close(self.open_folders.pop(list(self.open_folders)[1]))
        return descriptor

    def may_replace(self, state):
        return self.overwrite and not stat.S_ISDIR(state.st_mode)

    def restore(self, entry):
        if entry.kind == IMPOSSIBLE:
            raise Refused("what the catalogue says of it cannot be; another disk's may be right, see --catalogue")
        if not 0 <= entry.kind <= 5:
            raise Refused(f"its kind {entry.kind} is unknown to this script; use a newer one")
        if entry.path == b"/":
            return "left alone"  # its metadata comes last, see below
        parent, _, name = entry.path.rpartition(b"/")
        check_name(name)
        if parent in self.closed:
            raise Twin(self.closed[parent])
        if parent in self.theirs:
            if entry.kind == FOLDER:
                self.theirs.add(entry.path)
            raise Refused("the folder above it is somebody else's")
        with contextlib.ExitStack() as stack:
            return self.restore_in(entry, parent or b"/", name, stack)

    def restore_in(self, entry, parent, name, stack):
        folder = self.folder(parent)
        held = hold(folder, name, stack)
        if held is not None:
            name = self.stored(parent, folder, name, held.state)
        if entry.kind == FOLDER:
            return self.make_folder(entry, folder, name, held)
        key = (entry.device, entry.inode) if entry.flags & LINKED and entry.inode else None
        linked = key and self.link(entry, key, folder, name, held)
        folder = self.folder(parent)
        if linked:
            return linked
        right = held is not None and is_right(entry, held, self.overwrite)
        if right and self.mend(entry, folder, name, held):
            result = "left alone"
        elif held is None or right or self.may_replace(held.state):
            if held is not None:
                unlock(entry, held)  # an earlier restore's, which would not let it go
            result = self.create(entry, folder, name)
        else:
            raise NotADirectoryError(errno.ENOTDIR, "something else is in place")
        if result in ("restored", "left alone"):
            if key:
                self.first_names[key] = (entry.path, entry.kind, entry.hash, self.placed)
            if entry.kind == FILE and entry.flags >> CHATTR & LOCKS:
                self.locked[entry.path] = (self.placed, entry.flags >> CHATTR)
        return result

    def make_folder(self, entry, folder, name, held):
        if held is None:
            os.mkdir(name, 0o700, dir_fd=folder)
            self.take_new(entry.path, folder, name, entry)
            self.listings.get(entry.path.rpartition(b"/")[0] or b"/", set()).add(name)
            return "restored"
        if not stat.S_ISDIR(held.state.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "something else is in place")
        if entry.flags >> CHATTR:
            give_flags(held.handle, 0)  # nothing can be put into an immutable folder; its flags come back at the end
        return self.take_present(entry, folder, name, held)

    # Where others may write, a folder that was not made here is given nothing more, and must be the same whenever it is
    # opened. Root marks what it made there, so that the next run knows what an interrupted one had not finished.

    def take_new(self, path, folder, name, entry=None):
        if not may_others_write(os.fstat(folder), os.geteuid()):
            return
        with Held(folder, name) as made:
            ours = made.state.st_uid == os.geteuid() or (entry and made.state.st_uid == self.owner_here(entry, folder, name))
            if not ours or not stat.S_ISDIR(made.state.st_mode) or os.listdir(made.handle):
                raise Refused("somebody put another one in its place just now")
            if made.state.st_mode & 0o077:
                attempt(os.chmod, made.handle, 0o700)
            if entry:
                attempt(os.setxattr, made.handle, UNFINISHED, marking(entry))
            self.seen[path] = (made.identity, False)
            self.made.add((path, made.identity))

    def take_present(self, entry, folder, name, held):
        above, present, wanted = os.fstat(folder), looks_of(entry, held.handle, held.state), looks_wanted(entry)
        shared = may_others_write(above, os.geteuid())
        among_themselves = present.uid == wanted.uid == above.st_uid and not above.st_mode & 0o022
        ours = not shared or among_themselves or (entry.path, held.identity) in self.made or is_marked(entry, held)
        if ours and present.uid not in (os.geteuid(), wanted.uid):
            attempt(os.chown, held.handle, wanted.uid, wanted.gid)
        if not ours and present.uid != wanted.uid and present.uid != self.owner_here(entry, folder, name):
            if attempt(os.rmdir, name, dir_fd=folder):  # an empty one is no loss
                os.mkdir(name, 0o700, dir_fd=folder)
                self.take_new(entry.path, folder, name, entry)
                return "restored"
            self.theirs.add(entry.path)
            raise Refused(
                "a folder of somebody else stands in its place, where others may write: remove it, or choose another DEST"
            )
        mode = present.mode & wanted.mode
        if access_list(present.xattrs) != access_list(wanted.xattrs) or present.gid != wanted.gid:
            mode &= ~0o070
        if held.state.st_uid == os.geteuid():
            mode |= 0o700
        if mode != present.mode:
            attempt(os.chmod, held.handle, mode)
        if shared:
            self.seen[entry.path] = (held.identity, not ours and present != wanted)
        return "left alone"

    def owner_here(self, entry, folder, name):
        return self.outcome(entry._replace(kind=FILE, flags=0), folder, name, None).uid

    def finish(self, matches):
        """Last, because everything that was put into a folder changed its time; what stood above is there still."""
        for path, (identity, flags) in self.locked.items():
            parent, _, name = path.rpartition(b"/")
            with contextlib.suppress(Refused, Twin, OSError), contextlib.ExitStack() as stack:
                held = hold(self.folder(parent or b"/", make=False), name, stack)
                ours = held is not None and held.identity == identity
                self.lost["flag of chattr"] += not (ours and give_flags(held.handle, flags))
        made = self.made_on_the_way
        for recorded in self.catalogue.entries(lambda path: matches(path) or path in made, folders_deepest_first=True):
            entry = self.owned(recorded)
            made.discard(entry.path)
            if entry.path in self.closed or entry.path in self.theirs or entry.kind == IMPOSSIBLE:
                continue
            try:
                descriptor = self.folder(entry.path, make=False)
                self.finish_folder(entry, f"/proc/self/fd/{descriptor}", os.fstat(descriptor))
            except (FileNotFoundError, NotADirectoryError, Refused, Twin):
                pass
            except OSError:
                self.lost["metadata of a folder"] += 1
        for path in made:
            with contextlib.suppress(Refused, Twin, OSError):
                attempt(os.chmod, f"/proc/self/fd/{self.folder(path, make=False)}", 0o755)

    def finish_folder(self, entry, handle, state):
        # A source mapped to '/' describes the destination itself; one that was in use keeps its own metadata.
        ours = (state.st_uid, stat.S_IMODE(state.st_mode)) == (entry.uid, entry.mode)
        if entry.path == b"/" and not self.root_is_new and not ours:
            return
        if self.seen.get(entry.path, (None, False))[1]:
            attempt(os.utime, handle, None, ns=(state.st_atime_ns, entry.mtime_ns))
            self.lost["metadata of a folder"] += looks_of(entry, handle, state) != looks_wanted(entry)
            return
        self.give_metadata(entry, handle, state)
        if entry.flags >> CHATTR and entry.path != b"/":
            self.lost["flag of chattr"] += not give_flags(handle, entry.flags >> CHATTR)
        if entry.path in self.seen:
            attempt(os.removexattr, handle, UNFINISHED)

    def link(self, entry, key, folder, name, held):
        """Make the entry another name of what was restored before; None: it must be restored for itself."""
        first = self.first_names.get(key)
        if first is None or first[1:3] != (entry.kind, entry.hash):
            return None
        right = held is None or is_right(entry, held, self.overwrite)
        if not right and not self.may_replace(held.state):
            return None
        parent, _, first_name = first[0].rpartition(b"/")
        with contextlib.ExitStack() as stack:
            try:
                original = hold(self.folder(parent or b"/"), first_name, stack)
                if original is None or original.identity != first[3]:
                    return None
                if held is not None and held.identity == original.identity:
                    return "left alone"
                folder = self.folder(entry.path.rpartition(b"/")[0] or b"/")
                temporary = temporary_name(name)
                attempt(os.unlink, temporary, dir_fd=folder)
                link = functools.partial(os.link, original.handle, temporary, dst_dir_fd=folder)
                if not attempt(link, follow_symlinks=True):
                    unlock(entry, original)
                    link(follow_symlinks=True)
                if held is not None:
                    unlock(entry, held)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                return "restored"
            except OSError:
                self.lost["hard link"] += 1
                return None

    def create(self, entry, folder, name):
        """Write beside, give it its metadata, and only then its name."""
        if entry.kind == FILE and entry.hash is not None:
            try:
                source = self.open_object(os.fsencode(entry.hash.hex()))
            except FileNotFoundError:
                self.counts["unheld"] += not entry.holders
                self.needed.update(entry.holders)
                return "missing"
            except PermissionError as error:
                raise Trouble("the objects on this disk are for root to read: run this as root") from error
            except OSError as error:
                raise Refused(f"its object on this disk cannot be opened: {error.strerror}") from error
            try:
                return self.write(entry, folder, name, source)
            finally:
                os.close(source)
        return self.write(entry, folder, name, None)

    def open_object(self, digits):
        """A descriptor of an object, with no link on the way. On a damaged disk anything may stand there, such as a FIFO."""
        with contextlib.ExitStack() as stack:
            folder = self.disk
            for part in (b"distbackup-objects", digits[:3]):
                folder = os.open(part, OPEN_FOLDER, dir_fd=folder)
                stack.callback(os.close, folder)
            descriptor = os.open(digits, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(errno.EINVAL, "something else than a file is in its place")
            return descriptor

    def write(self, entry, folder, name, source):
        temporary = temporary_name(name)
        attempt(os.unlink, temporary, dir_fd=folder)
        try:
            with contextlib.ExitStack() as stack:
                if entry.kind == FILE:
                    self.placed = self.make_file(entry, folder, temporary, source)
                else:
                    made = self.make_special(entry, folder, temporary, stack)
                    if made is None:
                        return "not kept"
                    self.placed = made.identity
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            attempt(os.unlink, temporary, dir_fd=folder)
            raise
        self.listings.get(entry.path.rpartition(b"/")[0] or b"/", set()).add(name)
        return "restored"

    def make_file(self, entry, folder, temporary, source, try_out=False):
        """Device and inode; ``try_out``: how it looks, while it has no content."""
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        try:
            handle, flags = f"/proc/self/fd/{descriptor}", entry.flags >> CHATTR
            if flags & BEFORE_CONTENT:
                give_flags(handle, flags & BEFORE_CONTENT)
            if source is not None:
                self.copy(entry, source, descriptor)
            self.give_metadata(entry, handle, os.fstat(descriptor))
            if flags and (try_out or not flags & LOCKS):
                self.lost["flag of chattr"] += not give_flags(handle, flags)
            if not try_out:
                return identity_of(os.fstat(descriptor))
            looks = looks_of(entry, handle, os.fstat(descriptor))
            if flags:
                give_flags(handle, 0)
            return looks
        finally:
            os.close(descriptor)

    def make_special(self, entry, folder, temporary, stack):
        """A link, fifo or device node, held; None: the destination cannot hold it."""
        attempt(os.unlink, temporary, dir_fd=folder)
        if entry.kind == SYMLINK:
            made = attempt(os.symlink, entry.target, temporary, dir_fd=folder)
        else:
            made = attempt(os.mknod, temporary, 0o600 | FORMATS[entry.kind], entry.rdev, dir_fd=folder)
        if not made:
            attempt(os.unlink, temporary, dir_fd=folder)  # exfat-fuse says no, and leaves an empty file
            self.lost[KINDS[entry.kind]] += 1
            return None
        held = hold(folder, temporary, stack)
        shared = may_others_write(os.fstat(folder), os.geteuid())
        ours = held is not None and held.state.st_nlink == 1 and (held.state.st_uid == os.geteuid() or not shared)
        if not ours or not is_right(entry, held, False):
            raise Refused("somebody put something else in its place just now")
        self.give_metadata(entry, held.handle, held.state)
        return held

    def outcome(self, entry, folder, name, present):
        """How a new one looks here, given all that is the entry's: destinations and users cannot keep everything.

        What is known from before is believed only where ``present`` looks so, for then nothing comes of it.
        """
        xattrs = tuple(entry.xattrs)
        key = (os.fstat(folder).st_dev, entry.kind, entry.mode, entry.uid, entry.gid, xattrs, entry.flags >> CHATTR)
        looks, lost = self.outcomes.get(key, (None, None))
        if looks is None or (present is not None and looks != present):
            before, self.lost = self.lost, collections.Counter()
            temporary = temporary_name(name)
            attempt(os.unlink, temporary, dir_fd=folder)
            try:
                with contextlib.ExitStack() as stack:
                    if entry.kind == FILE:
                        looks = self.make_file(entry, folder, temporary, None, try_out=True)
                    else:
                        made = self.make_special(entry, folder, temporary, stack)
                        looks = made and looks_of(entry, made.handle, os.stat(made.handle))
            finally:
                attempt(os.unlink, temporary, dir_fd=folder)
                lost, self.lost = self.lost, before
            if len(self.outcomes) > OUTCOMES:
                self.outcomes.clear()
            self.outcomes[key] = (looks, lost)
        if present is not None:
            self.lost.update(lost)
        return looks or looks_wanted(entry)

    def copy(self, entry, source, descriptor):
        hashed, total = hashlib.sha256(), 0
        while total <= entry.size:
            try:
                data = os.read(source, CHUNK)
            except OSError as error:
                raise Refused(f"its object on this disk cannot be read: {error.strerror}") from error
            if not data:
                break
            total += len(data)
            hashed.update(data)
            for start in range(0, len(data), BLOCK if entry.flags & SPARSE else CHUNK):
                block = data[start : start + BLOCK] if entry.flags & SPARSE else data
                if entry.flags & SPARSE and block == ZEROS:
                    os.lseek(descriptor, BLOCK, os.SEEK_CUR)
                    continue
                while block:
                    block = block[os.write(descriptor, block) :]
        if total != entry.size or hashed.digest() != entry.hash:
            raise Damaged("its object on this disk is damaged: the content is not what its name says")
        os.ftruncate(descriptor, total)
        self.bytes += total

    def mend(self, entry, folder, name, held):
        """Give what looks right its metadata, or replace it by a copy where that could be somebody's gain.

        Somebody who may write here can have put it there, or renamed something else: then it gets no owner, no privilege
        and no reader more. False: its content is not what it should be.
        """
        self.placed = held.identity
        present, wanted = looks_of(entry, held.handle, held.state), looks_wanted(entry)
        alone = held.state.st_nlink == 1 and not may_others_write(os.fstat(folder), os.geteuid())
        if must_be_replaced(present, wanted, alone):
            wanted = self.outcome(entry, folder, name, present)
        if must_be_replaced(present, wanted, alone):
            unlock(entry, held)
            source = os.open(held.handle, os.O_RDONLY | os.O_NONBLOCK) if entry.kind == FILE and entry.hash else None
            try:
                before = self.bytes
                self.write(entry, folder, name, source)
                self.bytes = before
            except Damaged:
                return False
            finally:
                if source is not None:
                    os.close(source)
            return True
        if present != wanted:
            complete = functools.partial(complete_metadata, entry, held, wanted.mode)
            self.lost["mode"] += not (attempt(complete) or (unlock(entry, held) and attempt(complete)))
        if held.state.st_mtime_ns != entry.mtime_ns:
            attempt(os.utime, held.handle, None, ns=(held.state.st_atime_ns, entry.mtime_ns))
        return True

    # Metadata: owner, extended attributes, mode, times, for each undoes parts of the next; and what a mode lets a group do
    # may be for those only whom an access list names, or for those whom an inherited one names that has to go.

    def give_metadata(self, entry, handle, state):
        mode = entry.mode
        if (state.st_uid, state.st_gid) != (entry.uid, entry.gid):
            if not attempt(os.chown, handle, entry.uid, entry.gid):
                attempt(os.chown, handle, -1, entry.gid)
            state = os.stat(handle)
            if state.st_uid != entry.uid or state.st_gid != entry.gid:
                mode &= 0o1777  # a setuid program must not become somebody else's
        if not self.give_xattrs(entry, handle):
            mode &= mode_without_access_list(entry)
        if entry.kind != SYMLINK and (entry.xattrs or stat.S_IMODE(state.st_mode) != mode):
            attempt(os.chmod, handle, mode)
        if state.st_mtime_ns != entry.mtime_ns:
            attempt(os.utime, handle, None, ns=(state.st_atime_ns, entry.mtime_ns))
        state = os.stat(handle)
        self.lost["owner"] += (state.st_uid, state.st_gid) != (entry.uid, entry.gid)
        self.lost["mode"] += entry.kind != SYMLINK and stat.S_IMODE(state.st_mode) != entry.mode
        self.lost["exact time"] += state.st_mtime_ns != entry.mtime_ns

    def give_xattrs(self, entry, handle):
        """Whether the access list that is wanted is there now, if one is."""
        try:
            present = set(os.listxattr(handle))
        except OSError:
            present = set()
        for name in present - {name for name, _ in entry.xattrs}:
            if is_stray(name):
                attempt(os.removexattr, handle, name)
        listed = True
        for name, value in entry.xattrs:
            if not attempt(os.setxattr, handle, name, value):
                self.lost["ACL" if name in ACL else "extended attribute"] += 1
                listed = listed and name != ACL[0]
        return listed


class Damaged(Refused):
    """What was read is not what its name says."""


def open_destination(path):
    """The folder, which is made if it is missing; from name to name, so that no link leads elsewhere."""
    here = os.open(b"/", OPEN_FOLDER)
    for name in path.split(b"/"):
        if name:
            try:
                below = os.open(name, OPEN_FOLDER, dir_fd=here)
            except FileNotFoundError:
                attempt(os.mkdir, name, 0o777, dir_fd=here)
                below = os.open(name, OPEN_FOLDER, dir_fd=here)
            os.close(here)
            here = below
    return here


def warn_of_others(destination):
    """Say who else may change what lies there, or lead elsewhere on the way, if anybody can."""
    path = b"/"
    for name in [b"", *destination.split(b"/")]:
        path = os.path.join(path, name)
        state, sticky = os.stat(path), path != destination and os.stat(path).st_mode & stat.S_ISVTX
        who = None
        if state.st_uid not in (0, os.geteuid()):
            who = f"the user '{name_of(pwd.getpwuid, state.st_uid)}'"
        elif state.st_mode & 0o002 and not sticky:
            who = "everybody"
        elif state.st_mode & 0o020 and not sticky and has_members(state.st_gid):
            who = f"the group '{name_of(grp.getgrgid, state.st_gid)}'"
        if who:
            say(
                f"{who} may write in {shown(path)}, so what is restored can be exchanged there meanwhile and afterwards: "
                "better choose a folder that nobody else may write"
            )
            return


def name_of(find, number):
    with contextlib.suppress(KeyError, OSError):
        return find(number)[0]
    return number


def has_members(gid):
    """Whether anybody else is, or may be, in the group."""
    own = {0, os.geteuid()}
    try:
        named = {pwd.getpwnam(name).pw_uid for name in grp.getgrgid(gid).gr_mem}
        return bool(named - own) or any(user.pw_gid == gid and user.pw_uid not in own for user in pwd.getpwall())
    except (KeyError, OSError):
        return True


def is_stray(name):
    """What a default ACL gave, for one; labels of a security module are its own business."""
    return name.startswith("user.") or name in ACL or name == "security.capability"


def access_list(xattrs):
    return [value for name, value in xattrs if name == ACL[0]]


def mode_without_access_list(entry):
    """What stands in a mode for the group is the list's mask: without the list the group gets what the list gives it."""
    for value in access_list(entry.xattrs):
        if value[:4] == struct.pack("<I", 2) and len(value) % 8 == 4:
            rules = {tag: mode for tag, mode, _ in struct.iter_unpack("<HHI", value[4:])}
            if 4 in rules:
                return entry.mode & ~0o070 | (rules[4] & rules.get(16, 7) & (entry.mode >> 3)) << 3
    return entry.mode


def looks_wanted(entry):
    mode = 0 if entry.kind == SYMLINK else entry.mode
    flags = entry.flags >> CHATTR & CHATTR_KEPT if entry.kind == FILE else 0
    return Looks(entry.uid, entry.gid, mode, frozenset(entry.xattrs), flags)


def looks_of(entry, handle, state):
    """How it looks, as far as a restore of the entry would change that."""
    names = {name for name, _ in entry.xattrs}
    xattrs, flags = [], 0
    with contextlib.suppress(OSError):
        present = [name for name in os.listxattr(handle) if name in names or is_stray(name)]
        xattrs += [(name, os.getxattr(handle, name)) for name in present]
    if entry.kind == FILE and entry.flags >> CHATTR & CHATTR_KEPT:
        with contextlib.suppress(OSError):
            descriptor = os.open(handle, os.O_RDONLY | os.O_NONBLOCK)
            with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)):
                flags = read_flags(descriptor) & CHATTR_KEPT
    mode = 0 if entry.kind == SYMLINK else stat.S_IMODE(state.st_mode)
    return Looks(state.st_uid, state.st_gid, mode, frozenset(xattrs), flags)


def must_be_replaced(present, wanted, alone):
    """Whether what makes the one of the other could be somebody's gain. ``alone``: nobody else can have put it there."""
    guarded = [
        (looks.uid, looks.gid, looks.flags, {item for item in looks.xattrs if not item[0].startswith("user.")})
        for looks in (present, wanted)
    ]
    more = wanted.mode & ~present.mode
    return guarded[0] != guarded[1] or bool(more & 0o7000) or (bool(more) and not alone)


def complete_metadata(entry, held, mode):
    """What is harmless: a mode that gives nobody more, and ``user.*`` attributes."""
    if entry.kind != SYMLINK and stat.S_IMODE(held.state.st_mode) != mode:
        os.chmod(held.handle, mode)
    names = {name for name, _ in entry.xattrs}
    for name in os.listxattr(held.handle):
        if name.startswith("user.") and name not in names:
            attempt(os.removexattr, held.handle, name)
    for name, value in entry.xattrs:
        if name.startswith("user."):
            attempt(os.setxattr, held.handle, name, value)


def marking(entry):
    """What only the same folder of the same backup is marked with."""
    said = repr((entry.path, entry.mode, entry.uid, entry.gid))
    return hashlib.blake2b(said.encode(), digest_size=16).digest()


def is_marked(entry, held):
    try:
        return os.getxattr(held.handle, UNFINISHED) == marking(entry)
    except OSError:
        return False


def unlock(entry, held):
    """Whether what an earlier restore had locked can be changed now; nobody can rename or link what is locked."""
    flags = entry.flags >> CHATTR if entry.kind == FILE else 0
    return bool(flags & LOCKS) and give_flags(held.handle, flags & ~LOCKS)


def is_right(entry, held, by_content):
    state = held.state
    if stat.S_IFMT(state.st_mode) != FORMATS[entry.kind]:
        return False
    if entry.kind == FILE and by_content:
        return state.st_size == entry.size and (entry.hash is None or hash_of(held, entry.size) == entry.hash)
    if entry.kind == FILE:
        times = (entry.mtime_ns // step * step for step in TIME_STEPS)
        return state.st_size == entry.size and state.st_mtime_ns in times
    if entry.kind == SYMLINK:
        return os.readlink(b"", dir_fd=held.descriptor) == entry.target
    return entry.kind == FIFO or state.st_rdev == entry.rdev


def hash_of(held, size):
    """Of its content, if that has this size: it may grow faster than it is read."""
    hashed = hashlib.sha256()
    try:
        descriptor = os.open(held.handle, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:
            for data in iter(lambda: file.read(CHUNK), b""):
                hashed.update(data)
                size -= len(data)
                if size < 0:
                    return None
    except OSError:
        return None
    return hashed.digest()


def folded(name):
    """The same for names that a file system may take for one."""
    text = unicodedata.normalize("NFKC", os.fsdecode(name))
    return unicodedata.normalize("NFKC", text.casefold()).rstrip(" .")


def is_same(folder, name, state, by_looks):
    """Whether it is what ``state`` tells. Some drivers give each spelling an inode of its own."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    looks = [(each.st_dev, stat.S_IFMT(each.st_mode), each.st_size, each.st_mtime_ns) for each in (found, state)]
    if stat.S_ISDIR(state.st_mode):
        looks = [each[:2] for each in looks]  # the rest changes while it is restored to
    return os.path.samestat(found, state) or (by_looks and looks[0] == looks[1])


def give_flags(handle, wanted):
    """Whether a file or folder has just these flags of chattr now."""
    wanted &= CHATTR_KEPT
    try:
        descriptor = os.open(handle, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        present = read_flags(descriptor)
        if present & CHATTR_KEPT == wanted:
            return True
        attempt(fcntl.ioctl, descriptor, SET_FLAGS, struct.pack("I", present & ~CHATTR_KEPT | wanted).ljust(LONG, b"\0"))
        for bit in (1 << number for number in range(24)):  # one that is unknown here keeps the others away too
            if wanted & bit & ~read_flags(descriptor):
                more = struct.pack("I", read_flags(descriptor) | bit).ljust(LONG, b"\0")
                attempt(fcntl.ioctl, descriptor, SET_FLAGS, more)
        return not wanted & ~read_flags(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def read_flags(descriptor):
    buffer = bytearray(LONG)
    fcntl.ioctl(descriptor, GET_FLAGS, buffer)
    return struct.unpack_from("I", buffer)[0]


def check_name(name):
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise Refused("its path could lead outside the destination")


def temporary_name(name):
    return b".dbtmp~" + hashlib.blake2b(name, digest_size=10).hexdigest().encode()


def attempt(call, *words, **more):
    """Whether the call went well."""
    try:
        call(*words, **more)
    except (OSError, ValueError, OverflowError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
