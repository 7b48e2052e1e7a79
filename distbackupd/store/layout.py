"""The folders of the layout, each held open beneath the root once it was used."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from distbackupd.beneath import open_folder
from distbackupd.store.folders import Folder, OpenFolders
from distbackupd.store.plain_files import Aside, make_folder

OBJECTS = b"distbackup-objects"
UNFINISHED = b"distbackup-tmp"
BAD_OBJECTS = b"bad-objects"
_NUMBER = re.compile(rb"[0-9a-f]{3}")


class Layout:
    """Of the disk whose layout lies at ``place``. Every property and method raises OSError: NotADirectoryError for what is
    there and no real folder, FileNotFoundError.
    """

    def __init__(self, place: bytes) -> None:
        self._place = place
        self._root: Folder | None = None
        self._top: dict[bytes, Folder] = {}
        self._folders = OpenFolders()
        self._count: int | None = None
        self._aside: Aside | None = None

    def close(self) -> None:
        """Everything is closed; nobody may be using it."""
        self._folders.clear()
        self._top.clear()
        self._aside = None
        if self._root is not None:
            self._root.close_all()
            self._root = None

    @property
    def root(self) -> Folder:
        """Where the layout lies."""
        if self._root is None:
            self._root = Folder(open_folder(self._place))
        return self._root

    @property
    def objects(self) -> Folder:
        """That of the objects' folders."""
        return self._held(OBJECTS)

    @property
    def unfinished(self) -> Folder:
        """That of copies which are not finished."""
        return self._held(UNFINISHED)

    @property
    def aside(self) -> Aside:
        """Where things go that stand in the way."""
        if self._aside is None:
            self._aside = Aside(self.root, BAD_OBJECTS)
        return self._aside

    def prepare(self) -> None:
        """Make what is missing; what is there is for its owner alone from now on."""
        for name in (OBJECTS, UNFINISHED):
            self._top[name] = make_folder(self.root, name, self.aside)
            self._top[name].close_to_others()
        self._folders.clear()
        self._count = sum(1 for _ in self.folders())

    def must_stand(self) -> None:
        """Make sure that what is written to is where the layout says. Raises NotADirectoryError."""
        for name in (OBJECTS, UNFINISHED):
            if not self._held(name).is_at(self.root, name):
                raise NotADirectoryError(errno.ENOTDIR, "somebody moved its folders while they were written to", name)

    def folders(self) -> Iterator[tuple[bytes, int]]:
        """Names and inodes of those of the objects' folders that are folders."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.objects.listed() as items:
            for item in items:
                if _NUMBER.fullmatch(name := os.fsencode(item.name)) and item.is_dir(follow_symlinks=False):
                    yield name, item.inode()

    def count_folders(self) -> int:
        """How many they are."""
        if self._count is None:
            self._count = sum(1 for _ in self.folders())
        return self._count

    def folder(self, number: bytes) -> Folder:
        """The folder of the objects whose names begin so."""
        return self._folders.get(self.objects, number)

    def make_folder(self, number: bytes) -> Folder:
        """The same, made if it is missing; what is no folder in its place goes aside."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            held = self.folder(number)
            if held.is_at(self.objects, number):
                return held
        self._folders.forget(number)
        made = make_folder(self.objects, number, self.aside)
        self._folders.put(number, made)
        self._count = None if self._count is None else self._count + 1
        return made

    def remove_if_empty(self, number: bytes) -> None:
        """Never fails."""
        with contextlib.suppress(OSError):
            os.rmdir(number, dir_fd=self.objects.descriptor)
            self._folders.forget(number)
            self._count = None if self._count is None else self._count - 1

    def _held(self, name: bytes) -> Folder:
        held = self._top.get(name)
        if held is None:
            held = self._top[name] = self.root.below(name)
        return held
