"""What the use cases need of files whose content is believed and still to be read again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from distbackupd.model.files import UnconfirmedFile
from distbackupd.model.rot import Confirmation


class UnconfirmedTable(Protocol):
    """Living files whose content is believed: it was not read by us, or not since something was done to the file, or so
    soon after it was written that it may have been written again with no trace. A version that ends is none of them.
    """

    def total(self) -> tuple[int, int]:
        """How many there are, and their bytes. Quick at any number."""

    def newest(self) -> int:
        """The row of the newest version of any file; 0: there is none."""

    def to_read(self, before: int, again: int, again_ns: int, limit: int) -> list[UnconfirmedFile]:
        """Those with rows below ``before``, the highest first.

        What was read too soon only if its row is at most ``again``, or if it last changed before ``again_ns``.
        """

    def doubt(self, rows: Sequence[int]) -> None:
        """These, if they are current, have to be read again. Durable."""

    def record(self, confirmations: Iterable[Confirmation], now: int) -> list[bytes]:
        """What was read of them, and of other names of the same inode, durably; virtual paths of those that changed.

        A content that was believed is confirmed, and the file's metadata are as they were when it was read; another one
        makes a new version. What is not settled stays unconfirmed.
        """
