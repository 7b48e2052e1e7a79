"""What can go wrong, as one sentence each: what happened, to what, what was kept, what to do next.

Two families matter to the engine. **Source trouble** skips the file and is reported; the session goes on. **Disk
trouble** ends the session; what was recorded before stays true. The rest ends the command.

``exit_code`` of each class is the status with which a command ends; ``EXIT_CODES`` is the one table of them, and the
manual prints it.
"""

from __future__ import annotations

EXIT_CODES = {
    0: "done",
    1: "an error of the program itself (please report it)",
    2: "the command's words are off: an unknown disk, a size such as 12Q, a path that is not there",
    3: "done, but some files were skipped; they are named and will be tried again",
    4: "trouble with a disk, the backup disk or the one restored to: full, read-only, not ours, a clone, gone",
    5: "trouble with the catalogue: broken, newer than this program, on a read-only place",
    6: "another distbackupd or dsb is at work on this catalogue",
    7: "bad copies were found on a backup disk",
    130: "interrupted; what was finished is recorded, the next run goes on there",
}
"""Exit status of every command, and its meaning."""


class DistbackupError(Exception):
    """An error that a person is told in one sentence. ``str(error)`` is that sentence."""

    exit_code = 1
    told = False
    """Whether the sentence was reported already; whoever ends the command does not repeat it then."""


class UsageError(DistbackupError):
    """What was asked cannot be meant: an unknown disk, a size of ``-5``, a source that is no folder."""

    exit_code = 2


class TooMuchAsked(UsageError):
    """So much that was asked for waits already that no more is taken. Nothing was changed."""


class SourceTrouble(DistbackupError):
    """One source file or folder could not be used. It is skipped and reported; nothing is deleted because of it."""

    exit_code = 3


class SourceChanged(SourceTrouble):
    """A file changed, grew, shrank or went while it was read."""


class ContentDiffers(SourceChanged):
    """A file was read to its end and has another content than it is known for. That may be a change, or rot."""


class DiskTrouble(DistbackupError):
    """The backup disk cannot be used any further; the session ends."""

    exit_code = 4


class DiskNotOurs(DiskTrouble):
    """The disk does not carry the identity that was expected: foreign, cloned, or its JSON file is missing."""


class DiskClone(DiskTrouble):
    """Several plugged-in file systems have the disk's UUID; none of them was touched."""


class DiskFull(DiskTrouble):
    """The disk has less room than it said. What was recorded is safe.

    ``unplaced``: where copies were to be made durable, the digests of those that are not; None: of all.
    """

    unplaced: frozenset[bytes] | None = None


class DiskReadOnly(DiskTrouble):
    """The disk cannot be written: a switch, a damaged file system, a mount option."""


class DiskForbidden(DiskReadOnly):
    """What lies on the disk is for others than the one who asks."""


class DiskGone(DiskTrouble):
    """The disk answers no more: pulled out, or its electronics failed."""


class CatalogueTrouble(DistbackupError):
    """The catalogue cannot be opened or read; it is left as it was. ``public_sentence``: for whoever may see the status."""

    exit_code = 5
    public_sentence = "the catalogue cannot be used"


class CataloguePlaceTrouble(CatalogueTrouble):
    """The disk with the catalogue is full, read-only or fails. What was not recorded is worth trying again later."""

    public_sentence = "the disk with the catalogue is full, read-only or fails, so nothing can be recorded"


class CatalogueFull(CataloguePlaceTrouble):
    """There is no room to record anything more."""

    public_sentence = "the disk with the catalogue is full, so nothing can be recorded"


class CatalogueDamaged(CatalogueTrouble):
    """What is in the catalogue is not what was written there. Nothing more is recorded in it."""

    public_sentence = "the catalogue is damaged, so nothing is done"


class NoRoomForCopy(CatalogueTrouble):
    """Beside the catalogue there is no room for the copy that is to go onto a disk."""


class EngineBusy(DistbackupError):
    """Another engine holds this catalogue's lock."""

    exit_code = 6


class Interrupted(DistbackupError):
    """Somebody asked to stop. Everything up to the last finished batch is recorded."""

    exit_code = 130
