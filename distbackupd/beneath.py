"""Opening what lies beneath a folder that is held open, for the adapters: nothing leads out of it.

A path may have been changed by somebody between two looks at it. So a folder is opened once, and from there on only names
in it are: without symbolic links at any place of them, without ``..``, and without stepping onto another mount.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

_SYS_OPENAT2 = 437
"""One number on every architecture; neither Python nor the C library of Debian 12 has a name for it."""
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
_WITHIN = _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS | _NO_XDEV
_NOT_TO_BE_HAD = (errno.ENOSYS, errno.EPERM)
"""What answers where the kernel, or a filter of system calls (systemd's RestrictSUIDSGID=), does not let it be called."""
_ALWAYS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_libc = ctypes.CDLL(None, use_errno=True)
_is_to_be_had: bool | None = None


class _How(ctypes.Structure):
    """``struct open_how`` of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(folder: int, path: bytes, flags: int, mode: int = 0, onto_mounts: bool = False) -> int:
    """A descriptor of what ``path`` names, which is relative to the open ``folder``; it is closed on exec.

    ``onto_mounts``: what is mounted in the folder belongs to it.

    It never waits (O_NONBLOCK), and what was opened is to be looked at: it may be a FIFO or a device. Raises OSError: ELOOP
    for a symbolic link anywhere in the path, EXDEV for what would lead out of the folder or onto another mount.
    """
    global _is_to_be_had  # noqa: PLW0603 - a property of the machine, found out once
    if _is_to_be_had is None:
        _is_to_be_had = _has_openat2()
    open_it = _openat2 if _is_to_be_had else _walk
    descriptor = open_it(folder, path, flags, mode, onto_mounts)
    # With O_PATH a link can itself be opened.
    if flags & os.O_PATH and stat.S_ISLNK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _error(errno.ELOOP, path)
    return descriptor


def open_folder(path: bytes) -> int:
    """A descriptor of a folder that root or the user named; the last part of its path may be no link. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | _ALWAYS)


def mount_of(descriptor: int) -> int:
    """The kernel's number of the mount that an open file lies on. Raises OSError."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as lines:
        for line in lines:
            if line.startswith(b"mnt_id:"):
                return int(line[7:])
    raise OSError(errno.ENOTSUP, "the kernel does not tell on which mount a file lies")


def is_mounted_read_only(descriptor: int) -> bool:
    """Whether the mount that an open file lies on lets nobody write, whatever its file system would. Raises OSError.

    A kernel that stops writing to a file system after errors leaves its mounts as they were.
    """
    mount = b"%d" % mount_of(descriptor)
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            words = line.split(b" ", 6)
            if words[0] == mount:
                return b"ro" in words[5].split(b",")
    return False


def _has_openat2() -> bool:
    try:
        here = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            os.close(_openat2(here, b".", os.O_PATH, 0, False))
        finally:
            os.close(here)
    except OSError as error:
        return error.errno not in _NOT_TO_BE_HAD
    return True


def _openat2(folder: int, path: bytes, flags: int, mode: int, onto_mounts: bool) -> int:
    always = _ALWAYS & ~os.O_NONBLOCK if flags & os.O_PATH else _ALWAYS  # openat2 refuses flags that mean nothing
    how = _How(flags | always, mode if flags & os.O_CREAT else 0, _WITHIN & ~_NO_XDEV if onto_mounts else _WITHIN)
    while True:
        descriptor = _libc.syscall(_SYS_OPENAT2, folder, path, ctypes.byref(how), ctypes.sizeof(how))
        if descriptor >= 0:
            return int(descriptor)
        code = ctypes.get_errno()
        if code not in (errno.EINTR, errno.EAGAIN):
            raise _error(code, path)


def _walk(folder: int, path: bytes, flags: int, mode: int, onto_mounts: bool) -> int:
    """The same, name by name."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")] or [b"."]
    if path.startswith(b"/") or b".." in names:
        raise _error(errno.EXDEV, path)
    mount = 0 if onto_mounts else mount_of(folder)
    here = os.dup(folder)
    try:
        for name in names[:-1]:
            below = _open_folder_in(here, name, path)
            os.close(here)
            here = below
        found = os.open(names[-1], flags | _ALWAYS, mode, dir_fd=here)
    finally:
        os.close(here)
    if not onto_mounts and mount_of(found) != mount:
        os.close(found)
        raise _error(errno.EXDEV, path)
    return found


def _open_folder_in(folder: int, name: bytes, path: bytes) -> int:
    try:
        return os.open(name, os.O_PATH | os.O_DIRECTORY | _ALWAYS, dir_fd=folder)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise _error(errno.ELOOP, path) from None
        raise


def _error(code: int, path: bytes) -> OSError:
    return OSError(code, os.strerror(code), path)
