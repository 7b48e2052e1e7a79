#!/usr/bin/env python3
"""Restore the files of a distbackup disk with nothing but python3 (3.8 or newer).

    python3 distbackup-restore.py DEST              restore everything that lies on this disk to the folder DEST
    python3 distbackup-restore.py DEST PATTERN      only what matches, such as /photos/2024 or '*.jpg'
    python3 distbackup-restore.py --at DATE DEST    as it was known then: 2026-11-01 (its end), '2026-11-01 14:30'
    python3 distbackup-restore.py --list [PATTERN]  print what the backup holds, and which disks hold it

Run it again with the next disk and the same DEST: what is right there already is left alone. As root it brings back
owners (by name, where this machine knows it), capabilities, device nodes and flags of chattr too. The disk is only read.
Exit status: 0 everything meant is restored, 2 wrong usage or no backup disk, 3 some files are on other disks or could not
be restored.
"""

# This file stands alone on purpose: it says again, in plain Python 3.8, what the program's own restore does.

import argparse
import collections
import contextlib
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
OPEN_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
say = functools.partial(print, flush=True)
ACL = ("system.posix_acl_access", "system.posix_acl_default")
DEAD = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE)  # or only unable to do just this
LISTINGS = 16
NAMES_TOLD = 20

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
        catalogue = Catalogue(options.catalogue or os.path.join(os.fsdecode(disk), "distbackup.sqlite"), options.at)
        names = dict(catalogue.connection.execute("SELECT CAST(id AS TEXT), name FROM disk"))
        if options.list:
            for entry in catalogue.entries(matches):
                holders = ",".join(sorted(names.get(holder, "?") for holder in entry.holders)) or "-"
                say(f"{'-dlpcb'[entry.kind : entry.kind + 1] or '?'} {entry.size:15d}  {holders:20}  {shown(entry.path)}")
            return 0
        destination, own = os.path.realpath(os.fsencode(options.words[0])), os.path.realpath(disk)
        if destination == own or destination.startswith(own.rstrip(b"/") + b"/"):
            raise Trouble("the destination lies on the backup disk itself; choose a folder elsewhere")
        restore = Restore(disk, destination, options.overwrite, catalogue)
        if not options.numeric_owner:
            restore.owners = Owners(*catalogue.accounts(options.at))
        return restore.run(matches, names)
    except (Trouble, sqlite3.Error, UnicodeError) as error:  # SQLite quotes what it cannot read
        damaged = "" if isinstance(error, Trouble) else "the catalogue is damaged, use another disk's with --catalogue: "
        sys.stderr.write(f"distbackup-restore: {damaged}{error}\n")
        return 2
    except (KeyboardInterrupt, BrokenPipeError):
        sys.stderr.write("\ninterrupted; what is restored is whole and stays, the same command goes on there\n")
        os._exit(3)  # not through Python's end, which would complain about the closed pipe


class Catalogue:
    """A disk's copy of the catalogue, only read, as it was known at a moment (unix seconds; None: now)."""

    def __init__(self, path, at):
        path = os.path.abspath(path)
        if not os.path.isfile(path):
            raise Trouble(f"there is no {shown(os.fsencode(path))}; say where the backup disk is with --disk")
        self.connection = sqlite3.connect(pathlib.Path(path).as_uri() + "?mode=ro&immutable=1", uri=True)
        if sqlite3.sqlite_version_info < STRICT_TABLES:
            self.connection.execute("PRAGMA writable_schema=ON")
        application = self.connection.execute("PRAGMA application_id").fetchone()[0]
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID or version < 1:
            raise Trouble(f"{shown(os.fsencode(path))} is no catalogue of distbackupd; nothing was restored")
        self.conditions = NOW if at is None else [condition.format(at) for condition in THEN]

    def accounts(self, at):
        """Names by number, of users and of groups, as they were at the moment; none in a catalogue from before them."""
        names = ({}, {})
        if self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'account'").fetchone():
            query = "SELECT is_group, number, since, name FROM account ORDER BY is_group, number, since"
            for is_group, number, since, name in self.connection.execute(query):
                if at is None or since <= at or number not in names[bool(is_group)]:
                    names[bool(is_group)][number] = name
        return names

    def never_kept(self, matches):
        """Paths of what was seen and is of a kind that no backup keeps; known of the present only."""
        query = "SELECT path, name FROM problem JOIN folder ON folder.id = folder WHERE kind = 2 ORDER BY path, name"
        if (
            self.conditions == NOW
            and self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'problem'").fetchone()
        ):
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

    def entries(self, matches, folders_deepest_first=False, locked_files=False):
        only, descending = (" AND file.kind = 1", " DESC") if folders_deepest_first else ("", "")
        only = f" AND file.kind = 0 AND file.flags & {LOCKS << CHATTR}" if locked_files else only
        query = " UNION ALL ".join(ENTRIES + condition + only for condition in self.conditions)
        for folder, name, *row in self.connection.execute(f"{query} ORDER BY 1{descending}, 2{descending}"):
            path = folder if not name else folder.rstrip(b"/") + b"/" + name
            if matches(path):
                yield Entry(path, *row[:10], decode_xattrs(row[10]), *row[11:13], row[13].split())


def moment(text):
    """Unix seconds of a date; a day alone means its end."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        text += " 23:59:59"
    return int(datetime.datetime.fromisoformat(text).timestamp())


def decode_xattrs(blob):
    xattrs, position = [], 0
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


class Restore:
    def __init__(self, disk, destination, overwrite, catalogue):
        self.objects = os.path.join(disk, b"distbackup-objects")
        self.overwrite = overwrite
        self.catalogue = catalogue
        self.owners = None
        self.listings = {}
        self.spelled = {}
        self.closed = {}
        try:
            if not os.path.isdir(destination):
                os.makedirs(destination)
            self.root_is_new = not os.listdir(destination)
            self.open_folders = {b"/": os.open(destination, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}
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
        os.sync()
        self.report(names, time.monotonic() - started)
        never_kept = [shown(path) for path in self.catalogue.never_kept(matches)]
        if never_kept:
            more = f" and {len(never_kept) - NAMES_TOLD} more" if len(never_kept) > NAMES_TOLD else ""
            say(f"no backup keeps such things as sockets: {', '.join(never_kept[:NAMES_TOLD])}{more}")
        return 3 if any(self.counts[kind] for kind in ("missing", "failed", "in the way", "not possible")) else 0

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
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=root)
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
                self.made_on_the_way.add(known)
                descriptor = os.open(name, OPEN_FOLDER, dir_fd=descriptor)
            self.open_folders[known] = descriptor
            if len(self.open_folders) > 48:
                os.close(self.open_folders.pop(list(self.open_folders)[1]))
        return descriptor

    def may_replace(self, state):
        return self.overwrite and not stat.S_ISDIR(state.st_mode)

    def restore(self, entry):
        if not 0 <= entry.kind <= 5:
            raise Refused(f"its kind {entry.kind} is unknown to this script; use a newer one")
        if entry.path == b"/":
            return "left alone"  # its metadata comes last, see below
        parent, _, name = entry.path.rpartition(b"/")
        check_name(name)
        if parent in self.closed:
            raise Twin(self.closed[parent])
        folder = self.folder(parent or b"/")
        try:
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            name = self.stored(parent or b"/", folder, name, state)
        except FileNotFoundError:
            state = None
        if entry.kind == FOLDER:
            return self.make_folder(entry, folder, name, state)
        key = (entry.device, entry.inode) if entry.flags & LINKED and entry.inode else None
        linked = key and self.link(entry, key, folder, name, state)
        folder = self.folder(parent or b"/")
        if linked:
            return linked
        if state is not None and is_right(entry, state, folder, name, self.overwrite):
            self.mend(entry, folder, name)
            result = "left alone"
        elif state is None or self.may_replace(state):
            if state is not None and entry.flags >> CHATTR & LOCKS:
                give_flags(folder, name, 0)  # an earlier restore's, which would not let it go
            result = self.create(entry, folder, name)
        else:
            raise NotADirectoryError(errno.ENOTDIR, "something else is in place")
        if key and result in ("restored", "left alone"):
            self.first_names[key] = (entry.path, entry.kind, entry.hash)
        return result

    def make_folder(self, entry, folder, name, state):
        if state is None:
            os.mkdir(name, 0o700, dir_fd=folder)
            self.listings.get(entry.path.rpartition(b"/")[0] or b"/", set()).add(name)
        elif not stat.S_ISDIR(state.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "something else is in place")
        elif entry.flags >> CHATTR and give_flags(folder, name, 0):
            pass  # nothing can be put into an immutable folder; its flags come back at the end
        elif state.st_mode & 0o700 != 0o700 and state.st_uid == os.geteuid():
            descriptor = os.open(name, OPEN_FOLDER, dir_fd=folder)
            os.chmod(f"/proc/self/fd/{descriptor}", stat.S_IMODE(state.st_mode) | 0o700)
            os.close(descriptor)
        return "restored" if state is None else "left alone"

    def finish(self, matches):
        """Last, because everything that was put into a folder changed its time; what stood above is there still."""
        for entry in self.catalogue.entries(matches, locked_files=True):
            parent, _, name = entry.path.rpartition(b"/")
            with contextlib.suppress(Refused, Twin, OSError):
                folder = self.folder(parent or b"/", make=False)
                state = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if is_right(entry, state, folder, self.stored(parent or b"/", folder, name, state), False):
                    self.lost["flag of chattr"] += not give_flags(folder, name, entry.flags >> CHATTR)
        made = self.made_on_the_way
        for recorded in self.catalogue.entries(lambda path: matches(path) or path in made, folders_deepest_first=True):
            entry = self.owned(recorded)
            made.discard(entry.path)
            if entry.path in self.closed:
                continue
            try:
                descriptor = self.folder(entry.path, make=False)
                state = os.fstat(descriptor)
                # A source mapped to '/' describes the destination itself; one that was in use keeps its own metadata.
                ours = (state.st_uid, stat.S_IMODE(state.st_mode)) == (entry.uid, entry.mode)
                if entry.path != b"/" or self.root_is_new or ours:
                    self.give_metadata(entry, f"/proc/self/fd/{descriptor}", state)
                    if entry.flags >> CHATTR and entry.path != b"/":
                        self.lost["flag of chattr"] += not give_flags(descriptor, b".", entry.flags >> CHATTR)
            except (FileNotFoundError, NotADirectoryError, Refused, Twin):
                pass
            except OSError:
                self.lost["metadata of a folder"] += 1
        for path in made:
            attempt(os.chmod, f"/proc/self/fd/{self.folder(path)}", 0o755)

    def link(self, entry, key, folder, name, state):
        """Make the entry another name of what was restored before; None: it must be restored for itself."""
        first = self.first_names.get(key)
        if first is None or first[1:] != (entry.kind, entry.hash):
            return None
        right = state is None or is_right(entry, state, folder, name, self.overwrite)
        if not right and not self.may_replace(state):
            return None
        parent, _, first_name = first[0].rpartition(b"/")
        with contextlib.ExitStack() as stack:
            try:
                original = os.open(first_name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self.folder(parent or b"/"))
                stack.callback(os.close, original)
                if state is not None and os.path.samestat(state, os.fstat(original)):
                    return "left alone"
                folder = self.folder(entry.path.rpartition(b"/")[0] or b"/")
                temporary = temporary_name(name)
                attempt(os.unlink, temporary, dir_fd=folder)
                link = functools.partial(os.link, f"/proc/self/fd/{original}", temporary, dst_dir_fd=folder)
                if not attempt(link, follow_symlinks=True):
                    if entry.kind == FILE and entry.flags >> CHATTR & LOCKS:
                        give_flags(self.folder(parent or b"/"), first_name, 0)
                        give_flags(self.folder(entry.path.rpartition(b"/")[0] or b"/"), name, 0)
                    link(follow_symlinks=True)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                return "restored"
            except OSError:
                self.lost["hard link"] += 1
                return None

    def create(self, entry, folder, name):
        """Write beside, give it its metadata, and only then its name."""
        temporary = temporary_name(name)
        attempt(os.unlink, temporary, dir_fd=folder)
        try:
            if entry.kind == FILE:
                if not self.write_file(entry, folder, temporary):
                    return "missing"
            else:
                if entry.kind == SYMLINK:
                    made = attempt(os.symlink, entry.target, temporary, dir_fd=folder)
                else:
                    made = attempt(os.mknod, temporary, 0o600 | FORMATS[entry.kind], entry.rdev, dir_fd=folder)
                if not made:
                    attempt(os.unlink, temporary, dir_fd=folder)  # exfat-fuse says no, and leaves an empty file
                    self.lost[KINDS[entry.kind]] += 1
                    return "not kept"
                self.give_metadata_to_name(entry, folder, temporary)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            attempt(os.unlink, temporary, dir_fd=folder)
            raise
        if entry.kind == FILE and entry.flags >> CHATTR:
            self.lost["flag of chattr"] += not give_flags(folder, name, entry.flags >> CHATTR & ~LOCKS)
        self.listings.get(entry.path.rpartition(b"/")[0] or b"/", set()).add(name)
        return "restored"

    def write_file(self, entry, folder, temporary):
        """Whether the content is on this disk."""
        with contextlib.ExitStack() as stack:
            source = None
            if entry.hash is not None:
                digits = os.fsencode(entry.hash.hex())
                try:
                    source = open_object(os.path.join(self.objects, digits[:3], digits))
                except FileNotFoundError:
                    self.counts["unheld"] += not entry.holders
                    self.needed.update(entry.holders)
                    return False
                except OSError as error:
                    raise Refused(f"its object on this disk cannot be opened: {error.strerror}") from error
                stack.callback(os.close, source)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
            stack.callback(os.close, descriptor)
            if source is not None:
                self.copy(entry, source, descriptor)
            self.give_metadata(entry, descriptor, os.fstat(descriptor))
        return True

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
            raise Refused("its object on this disk is damaged: the content is not what its name says")
        os.ftruncate(descriptor, total)
        self.bytes += total

    def mend(self, entry, folder, name):
        flags = entry.flags >> CHATTR if entry.kind == FILE else 0
        before = collections.Counter(self.lost)
        self.give_metadata_to_name(entry, folder, name)
        if self.lost != before and flags & LOCKS and give_flags(folder, name, flags & ~LOCKS):
            self.lost = before
            self.give_metadata_to_name(entry, folder, name)
        elif flags and not flags & LOCKS:
            self.lost["flag of chattr"] += not give_flags(folder, name, flags)

    # Metadata: owner, then mode, then extended attributes, then times, for each undoes parts of the next.

    def give_metadata_to_name(self, entry, folder, name):
        if entry.kind == SYMLINK:
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return self.give_metadata(entry, b"/proc/self/fd/%d/%s" % (folder, name), state, follow_symlinks=False)
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            return self.give_metadata(entry, f"/proc/self/fd/{descriptor}", os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def give_metadata(self, entry, handle, state, **follow):
        mode = entry.mode
        if (state.st_uid, state.st_gid) != (entry.uid, entry.gid):
            if not attempt(os.chown, handle, entry.uid, entry.gid, **follow):
                attempt(os.chown, handle, -1, entry.gid, **follow)
            state = os.stat(handle, **follow)
            if state.st_uid != entry.uid or state.st_gid != entry.gid:
                mode &= 0o1777  # a setuid program must not become somebody else's
        if entry.kind != SYMLINK and stat.S_IMODE(state.st_mode) != mode:
            attempt(os.chmod, handle, mode)
        self.give_xattrs(entry, handle, follow)
        if state.st_mtime_ns != entry.mtime_ns:
            attempt(os.utime, handle, None, ns=(state.st_atime_ns, entry.mtime_ns), **follow)
        state = os.stat(handle, **follow)
        self.lost["owner"] += (state.st_uid, state.st_gid) != (entry.uid, entry.gid)
        self.lost["mode"] += entry.kind != SYMLINK and stat.S_IMODE(state.st_mode) != entry.mode
        self.lost["exact time"] += state.st_mtime_ns != entry.mtime_ns

    def give_xattrs(self, entry, handle, follow):
        try:
            present = set(os.listxattr(handle, **follow))
        except OSError:
            present = set()
        for name in present - {name for name, _ in entry.xattrs}:
            if name.startswith("user.") or name in ACL or name == "security.capability":
                attempt(os.removexattr, handle, name, **follow)
        for name, value in entry.xattrs:
            if not attempt(os.setxattr, handle, name, value, **follow):
                self.lost["ACL" if name in ACL else "extended attribute"] += 1


def open_object(path):
    """On a damaged disk anything may stand there; opening a FIFO would wait for ever."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(errno.EINVAL, "something else than a file is in its place")
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def is_right(entry, state, folder, name, by_content):
    if stat.S_IFMT(state.st_mode) != FORMATS[entry.kind]:
        return False
    if entry.kind == FILE and by_content:
        return state.st_size == entry.size and (entry.hash is None or hash_of(folder, name) == entry.hash)
    if entry.kind == FILE:
        times = (entry.mtime_ns // step * step for step in TIME_STEPS)
        return state.st_size == entry.size and state.st_mtime_ns in times
    if entry.kind == SYMLINK:
        return os.readlink(name, dir_fd=folder) == entry.target
    return entry.kind == FIFO or state.st_rdev == entry.rdev


def hash_of(folder, name):
    hashed = hashlib.sha256()
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with open(descriptor, "rb", buffering=0) as file:
            for data in iter(lambda: file.read(CHUNK), b""):
                hashed.update(data)
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


def give_flags(folder, name, wanted):
    """Whether a file or folder has just these flags of chattr now."""
    wanted &= CHATTR_KEPT
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
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
