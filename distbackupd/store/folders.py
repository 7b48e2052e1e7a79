"""Real folders of a disk, held open: everything on the disk is reached beneath one of them, by a single name.

Whoever can write to a disk can put anything in the place of a folder, at any moment. So a folder is opened once, beneath
the one above it, and is looked at: no symbolic link, nothing that is mounted there. What its name leads to afterwards is no
matter.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterator
from weakref import WeakSet

from distbackupd.beneath import open_beneath

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_ALL = 4096
"""Folders for objects there are on a disk; a session goes round them all with each batch."""
_OTHER_FILES = 700
"""So many files more than folders of one disk may be open."""
_OTHERS = 0o077


class NotAFolder(NotADirectoryError):
    """Something else stands where a real folder should; ``strerror`` says what."""


class Folder:
    """A folder that is open until it, or the root below which it lies, is closed, or nobody knows it any more.

    ``device`` and ``inode`` are its own.
    """

    __slots__ = ("__weakref__", "_family", "descriptor", "device", "inode", "state")

    def __init__(self, descriptor: int, family: WeakSet[Folder] | None = None) -> None:
        """Takes the descriptor over. ``family``: all that lie below the same root; None: this is one."""
        self.descriptor = descriptor
        self._family: WeakSet[Folder] = WeakSet() if family is None else family
        self._family.add(self)
        self.state = os.fstat(descriptor)
        self.device, self.inode = self.state.st_dev, self.state.st_ino

    def close(self) -> None:
        """It may be closed several times."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)

    __del__ = close

    def close_all(self) -> None:
        """With all that were opened below the same root. A disk can be unmounted then."""
        # An error that somebody remembers keeps the folders alive that it was about.
        for folder in list(self._family):
            folder.close()

    def below(self, name: bytes) -> Folder:
        """The folder of this name in it. Raises NotAFolder where something else is, FileNotFoundError, OSError."""
        try:
            return Folder(open_beneath(self.descriptor, name, _FOLDER), self._family)
        except NotADirectoryError as error:
            raise NotAFolder(errno.ENOTDIR, "it is no folder", name) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotAFolder(errno.ENOTDIR, "a symbolic link stands in the place of a folder", name) from error
            if error.errno == errno.EXDEV:
                raise NotAFolder(errno.ENOTDIR, "another file system is mounted on a folder of it", name) from error
            raise

    def is_at(self, above: Folder, name: bytes) -> bool:
        """Whether this is still what the name leads to there."""
        try:
            state = os.stat(name, dir_fd=above.descriptor, follow_symlinks=False)
        except OSError:
            return False
        return (state.st_dev, state.st_ino) == (self.device, self.inode)

    def close_to_others(self) -> None:
        """Only its owner may use it, who is the one who runs this. Never fails: not every file system has modes."""
        with contextlib.suppress(OSError):
            if self.state.st_uid != os.geteuid() and os.geteuid() == 0:
                os.fchown(self.descriptor, 0, 0)
            if self.state.st_mode & _OTHERS:
                os.fchmod(self.descriptor, 0o700)

    def give_to_its_owner(self, descriptor: int) -> None:
        """What was just made in root's folder is root's too, also if the service made it, which is not root. Never fails.

        Numbers of users mean nothing on another machine. Without the right to give files away it stays as it is.
        """
        if self.state.st_uid == 0 and os.geteuid() != 0:
            with contextlib.suppress(OSError):
                os.fchown(descriptor, 0, 0)

    @contextlib.contextmanager
    def listed(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        """What is in it, each name a ``str`` for ``os.fsencode``. Raises OSError, also while it is gone through."""
        # How far it was read is remembered with the open folder; it is wound back when this ends. For one thread at a time.
        # It is wound back at the beginning, too: btrfs shows what was there when the folder was opened or last wound back.
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        with os.scandir(self.descriptor) as items:
            yield items

    def names(self) -> list[bytes]:
        """All names in it. Raises OSError."""
        with self.listed() as items:
            return [os.fsencode(item.name) for item in items]


class OpenFolders:
    """Some folders of a folder, held open: the last that were used. Thread-safe.

    A folder that another thread still uses is closed when it lets go of it.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, Folder] = OrderedDict()
        self._most = _may_be_open()
        self._lock = threading.Lock()

    def get(self, above: Folder, name: bytes) -> Folder:
        """The folder of this name; opened if it is not. Raises OSError, see :meth:`Folder.below`."""
        with self._lock:
            held = self._held.get(name)
            if held is not None:
                self._held.move_to_end(name)
                return held
        opened = above.below(name)
        opened.close_to_others()
        self.put(name, opened)
        return opened

    def put(self, name: bytes, folder: Folder) -> None:
        """Hold this one too."""
        with self._lock:
            self._held[name] = folder
            if len(self._held) > self._most:
                self._held.popitem(last=False)

    def forget(self, name: bytes) -> None:
        """It is opened anew when it is used next."""
        with self._lock:
            self._held.pop(name, None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._held.clear()


def _may_be_open() -> int:
    """So many folders may be held open; this process is let have more files open, as far as it may ask for that itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ALL + _OTHER_FILES
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(_ALL, soft - _OTHER_FILES))
