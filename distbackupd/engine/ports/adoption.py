"""What is taken over from the program that was used before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from distbackupd.model.adoption import FormerDisk, FormerFile
from distbackupd.model.sources import Source


class FormerDatabase(Protocol):
    """distbackup's database, only read. Every method raises CatalogueTrouble if it is damaged."""

    def sources(self) -> list[Source]:
        """Every source, by virtual path."""

    def settings(self) -> dict[bytes, dict[str, Any]]:
        """What is set, by virtual path, as it is written there."""

    def disks(self) -> list[FormerDisk]:
        """Every disk that was not deleted, by name."""

    def holdings(self, disk: FormerDisk) -> Iterator[tuple[bytes, int]]:
        """Digest and size of what the disk is said to hold."""

    def file(self, path: bytes) -> FormerFile | None:
        """The regular file at the virtual path."""

    def below(self, path: bytes) -> Iterator[FormerFile]:
        """Regular files and symbolic links at and below the virtual path, those of one folder together."""
