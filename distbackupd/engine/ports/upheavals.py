"""How much was lost since a moment: what the brake measures."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from distbackupd.model.files import SourceFile


class Upheaval(NamedTuple):
    """What became of regular files that lived at a moment: ``vanished`` ones are gone, ``rewritten`` ones hold else.

    Only those count whose former content no living file has now: what was renamed, moved or copied is no loss. Sizes are
    bytes of the former contents; ``rewritten_size`` leaves out files that had been rewritten before that moment too.
    """

    vanished: int = 0
    rewritten: int = 0
    vanished_size: int = 0
    rewritten_size: int = 0


class UpheavalTable(Protocol):
    """What the sources lost, by what is true at this moment, whatever scans have seen the whole."""

    def since(self, moment: int) -> Upheaval:
        """What was lost after the moment (unix seconds) of what lived then. As quick as little became former since."""

    def lately(self, moment: int) -> Upheaval:
        """The same, of what was lost since the last whole scan ended: quick however much was renamed.

        To be asked when a scan has ended.
        """

    def rewritten_since(self, moment: int, limit: int) -> list[SourceFile]:
        """Some of those that are rewritten, as they are now; ``object_id`` is their former content's."""

    def living(self) -> tuple[int, int]:
        """Current regular files with content, and their bytes; quick as long as nothing changed since it was asked last."""
