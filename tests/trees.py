"""Nasty trees, and whether two trees are the same.

``build_nasty_tree`` makes every kind of entry with every kind of metadata that a backup must bring back; as an ordinary
user it leaves out what only root may make. ``assert_same_tree`` compares two trees in everything that promise 6 names.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

AS_ROOT = os.geteuid() == 0
DEEP = b"deep"
"""Name of the folder below which paths are longer than the 4095 bytes that the kernel (and rsync) takes at once."""
_TIME = 1_234_567_890_123_456_789
_SPARSE = 7
"""Where :func:`describe_tree` tells whether an entry has holes."""
_NO_UTF8 = b"no utf-8 \xff\xfe \xe9"
_NEWLINE = b"line\nbreak \t\x1b[31m"
_CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def acl(user: int, permissions: int = 7, other: int = 0) -> bytes:
    """A POSIX ACL as the kernel keeps it, which gives ``user`` these permissions; owner rwx, group r-x, mask rwx."""
    entries = [(0x01, 7, 0xFFFFFFFF), (0x02, permissions, user), (0x04, 5, 0xFFFFFFFF), (0x10, 7, 0xFFFFFFFF)]
    entries.append((0x20, other, 0xFFFFFFFF))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def build_nasty_tree(root: Path, deep: bool = True) -> None:
    """Fill ``root`` (made if missing) with every kind of entry; ``deep`` adds a path of more than 5000 bytes."""
    root.mkdir(parents=True, exist_ok=True)
    base = os.fsencode(root)
    for folder in (
        b"",
        b"/plain",
        b"/plain/below",
        b"/empty folder",
        b"/" + _NO_UTF8,
        b"/" + _NEWLINE,
        b"/-rf",
        b"/a",
        b"/a-b",
    ):
        os.makedirs(base + folder, exist_ok=True)
    os.makedirs(base + b"/a/b")
    _build_files(base)
    _build_special(base)
    _build_metadata(base)
    if deep:
        build_deep_path(root)
    _set_times(base)


def build_deep_path(root: Path, longer_than: int = 5000) -> None:
    """A file (and a symbolic link) at a path below ``root`` that is longer than any one system call takes."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    name, length = DEEP, 0
    while length < longer_than:
        os.mkdir(name, 0o750, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor, length = below, length + len(name) + 1
        name = b"%03d-" % (length // 200) + b"d" * 200
    with open(os.open(b"bottom", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=descriptor), "wb") as file:
        file.write(b"at the bottom")
    os.symlink(b"bottom", b"link", dir_fd=descriptor)
    os.setxattr(f"/proc/self/fd/{descriptor}/bottom", "user.depth", b"deep")
    os.close(descriptor)


def _build_files(base: bytes) -> None:
    write_file(base + b"/plain/text", b"some text\n")
    write_file(base + b"/plain/empty", b"")
    write_file(base + b"/plain/below/large", bytes(range(256)) * 12_345)
    write_file(base + b"/plain/below/same content", b"some text\n")
    write_file(base + b"/a/b/one", b"1")
    write_file(base + b"/a-b/two", b"22")
    write_file(base + b"/a/" + b"n" * 255, b"longest name")
    write_file(base + b"/-rf/--help", b"dashes")
    write_file(base + b"/" + _NO_UTF8 + b"/" + _NO_UTF8, b"bytes")
    write_file(base + b"/" + _NEWLINE + b"/" + _NEWLINE, b"control characters")
    write_file(base + b"/ leading blank and trailing blank ", b"blank")
    write_file(base + b"/100% {braces} $HOME `x` \\ \"'*?[a]", b"special to somebody")
    write_file(base + b"/\xc3\xa4 composed", b"NFC")
    write_file(base + b"/a\xcc\x88 decomposed", b"NFD")
    with open(base + b"/sparse", "wb") as file:
        file.seek(3 << 20)
        file.write(b"in the middle")
        file.truncate(8 << 20)
    with open(base + b"/only a hole", "wb") as file:
        file.truncate(1 << 20)
    write_file(base + b"/zeros without a hole", bytes(300_000))
    write_file(base + b"/plain/linked", b"three names")
    os.link(base + b"/plain/linked", base + b"/a-b/linked too")
    os.link(base + b"/plain/linked", base + b"/linked at the top")
    write_file(base + b"/a/empty linked", b"")
    os.link(base + b"/a/empty linked", base + b"/plain/below/empty linked too")


def _build_special(base: bytes) -> None:
    os.symlink(b"plain/text", base + b"/link to a file")
    os.symlink(b"plain", base + b"/link to a folder")
    os.symlink(b"../../../etc/passwd", base + b"/a/link outside")
    os.symlink(b"/nowhere/" + b"x" * 3000, base + b"/a/dangling " + _NO_UTF8)
    os.mkfifo(base + b"/fifo", 0o640)
    if AS_ROOT:
        with contextlib.suppress(PermissionError):
            os.mknod(base + b"/character", 0o620 | stat.S_IFCHR, os.makedev(1, 3))
            os.mknod(base + b"/block", 0o660 | stat.S_IFBLK, os.makedev(259, 70_000))


def _build_metadata(base: bytes) -> None:
    for name, mode in (
        (b"setuid", 0o4755),
        (b"setgid", 0o2711),
        (b"nobody reads", 0o000),
        (b"all", 0o777),
        (b"odd", 0o1604),
    ):
        write_file(base + b"/" + name, name)
        os.chmod(base + b"/" + name, mode)
    for name, mode in ((b"sticky folder", 0o1777), (b"setgid folder", 0o2755), (b"closed folder", 0o500)):
        os.mkdir(base + b"/" + name)
        write_file(base + b"/" + name + b"/inside", name)
        os.chmod(base + b"/" + name, mode)
    write_file(base + b"/with xattrs", b"attributes")
    os.setxattr(base + b"/with xattrs", "user.one", b"\x00\xff binary")
    os.setxattr(base + b"/with xattrs", "user.two", b"")
    os.setxattr(base + b"/empty folder", "user.folder", b"yes")
    write_file(base + b"/with acl", b"acl")
    os.setxattr(base + b"/with acl", "system.posix_acl_access", acl(os.getuid() or 12))
    os.setxattr(base + b"/a", "system.posix_acl_access", acl(os.getuid() or 13))
    os.setxattr(base + b"/a", "system.posix_acl_default", acl(os.getuid() or 14, 5))
    if AS_ROOT:
        write_file(base + b"/with capability", b"\x7fELF")
        os.setxattr(base + b"/with capability", "security.capability", _CAPABILITY)
        os.chown(base + b"/plain/text", 1234, 4321)
        os.chown(base + b"/setuid", 1234, 1234)
        os.chmod(base + b"/setuid", 0o4755)
        os.chown(base + b"/setgid folder", 0, 4321)
        os.chmod(base + b"/setgid folder", 0o2755)
        os.chown(base + b"/fifo", 7, 8)
        os.chown(base + b"/link to a file", 55, 66, follow_symlinks=False)
        os.chown(base + b"/" + _NO_UTF8, 2**31, 77)


def write_file(path: bytes | Path, content: bytes) -> None:
    """Write one file."""
    with open(path, "wb") as file:
        file.write(content)


def _set_times(base: bytes) -> None:
    """Give every entry a time of its own, down to the nanosecond, some before 1970 and some far ahead."""
    for number, (folder, name) in enumerate([(b"", base), *_walk_names(base)]):
        moment = _TIME + number * 1_000_000_007 - (number % 13 == 0) * 3 * 10**18 + (number % 17 == 0) * 10**18
        os.utime(folder + b"/" + name if folder else name, ns=(moment, moment), follow_symlinks=False)


def _walk_names(base: bytes) -> list[tuple[bytes, bytes]]:
    """Every entry that a plain path reaches, what folders hold before the folders."""
    return [
        (folder, name)
        for folder, folders, files in os.walk(base, topdown=False)
        for name in sorted(folders + files)
        if len(folder) + len(name) < 4000
    ]


def describe_tree(root: Path) -> dict[bytes, tuple[object, ...]]:
    """What matters of each entry, by path relative to ``root`` (itself: an empty path); any depth, no link followed."""
    described: dict[bytes, tuple[object, ...]] = {}
    first_names: dict[tuple[int, int], bytes] = {}
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        described[b""] = _describe(os.fstat(descriptor), b"/proc/self/fd/%d/." % descriptor, b"")
        for path, state, reach in _walk(descriptor, b""):
            first = first_names.setdefault((state.st_dev, state.st_ino), path) if state.st_nlink > 1 else path
            linked = first if not stat.S_ISDIR(state.st_mode) else path
            described[path] = (*_describe(state, reach, path), linked)
    finally:
        os.close(descriptor)
    return described


def _walk(descriptor: int, prefix: bytes) -> Iterator[tuple[bytes, os.stat_result, bytes]]:
    for name in sorted(os.fsencode(item) for item in os.listdir(descriptor)):
        state = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        yield prefix + name, state, b"/proc/self/fd/%d/%s" % (descriptor, name)
        if stat.S_ISDIR(state.st_mode):
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            try:
                yield from _walk(below, prefix + name + b"/")
            finally:
                os.close(below)


def _describe(state: os.stat_result, reach: bytes, path: bytes) -> tuple[object, ...]:
    kind = stat.S_IFMT(state.st_mode)
    content: object = b""
    if kind == stat.S_IFREG:
        with contextlib.suppress(PermissionError), open(reach, "rb") as file:
            content = file.read()
    elif kind == stat.S_IFLNK:
        content = os.readlink(reach)
    xattrs = {name: os.getxattr(reach, name, follow_symlinks=False) for name in os.listxattr(reach, follow_symlinks=False)}
    size = 0 if kind == stat.S_IFDIR else state.st_size
    sparse = kind == stat.S_IFREG and state.st_blocks * 512 < state.st_size
    mode = stat.S_IMODE(state.st_mode)
    return (kind, mode, state.st_uid, state.st_gid, state.st_mtime_ns, state.st_rdev, size, sparse, content, xattrs)


def assert_same_tree(expected: Path, actual: Path) -> None:
    """Fail, naming what differs, unless both trees are the same in all that a restore promises.

    Compared twice: by our own eyes (bytes, metadata, hard links, any depth, holes where holes were), and by ``rsync
    -aHAXS --delete --dry-run --itemize-changes``, which must print nothing; it cannot see :data:`DEEP` paths.
    """
    wanted, found = describe_tree(expected), describe_tree(actual)
    assert sorted(found) == sorted(wanted), f"missing {wanted.keys() - found.keys()}, extra {found.keys() - wanted.keys()}"
    for path, described in wanted.items():
        sparse = described[_SPARSE]
        comparable = found[path] if sparse else (*found[path][:_SPARSE], False, *found[path][_SPARSE + 1 :])
        assert comparable == described, path
    rsync = ["rsync", "-aHAXS", "--delete", "--dry-run", "--itemize-changes", f"--exclude=/{os.fsdecode(DEEP)}"]
    result = subprocess.run([*rsync, f"{expected}/", f"{actual}/"], capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
