"""The words of ``dsb``: distbackup's commands and options, with distbackup's meanings."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from distbackupd import __version__
from distbackupd.cli.completion import complete_disk, complete_restored, complete_virtual_path
from distbackupd.model.errors import EXIT_CODES

Add = Callable[..., argparse.ArgumentParser]

_IGNORE_HELP = (
    "name or pattern to ignore, matched against names: '*.tmp' a shell pattern, 'Thumbs.db' a plain name, '?' before any "
    "text makes it a shell pattern, ':' a plain name, '/' a regular expression. '!' in front includes what a later rule "
    "ignores, more '!' raise its priority. The first rule that matches decides. A new pattern is answered with how "
    "many known files it takes away. May be given several times"
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line. ``arguments.command`` of the result names the command: ``source map``."""
    parser = argparse.ArgumentParser(
        prog="dsb",
        description="Back up a large set of files to a shelf of offline disks, one disk at a time.",
        epilog="exit status: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()),
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "-d",
        "--db",
        dest="database",
        metavar="PATH",
        help="folder of the catalogue (default: $DISTBACKUP_PATH, else /var/lib/distbackup if there is one that may be "
        "read, else ~/.config/distbackup)",
    )
    parser.add_argument("--config", metavar="FILE", help="settings (default: /etc/distbackupd/distbackupd.toml)")
    _add_common(parser, default=False)
    parser.set_defaults(command_name=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, text: str, into: Any = commands, prefix: str = "", **more: Any) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = into.add_parser(name, help=text, description=text, **more)
        _add_common(command, default=argparse.SUPPRESS)
        command.set_defaults(command_name=f"{prefix}{name}")
        return command

    _add_source_commands(add)
    _add_disk_commands(add)
    _add_backup_commands(add)
    _add_report_commands(add)
    _add_daemon_commands(add)
    return parser


def _add_common(parser: argparse.ArgumentParser, default: Any) -> None:
    """Options that may stand before and behind the command; behind it only if they are given."""
    parser.add_argument(
        "-n", "--noaction", action="store_true", default=default, help="change nothing, say what would be done"
    )
    parser.add_argument("-v", "--verbose", action="store_true", default=default, help="say more")
    parser.add_argument("--json", action="store_true", default=default, help="print data as JSON, for machines")


def _add_source_commands(add: Add) -> None:
    source = add("source", "Manage backup sources; without a command list them")
    commands = source.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, text: str, **more: Any) -> argparse.ArgumentParser:
        return add(name, text, commands, "source ", **more)

    def virtual_paths(parser: argparse.ArgumentParser, many: str | None = None) -> None:
        action = parser.add_argument("vpath", metavar="VPATH", nargs=many, help="virtual path in the backup set")
        action.completer = complete_virtual_path  # type: ignore[attr-defined]

    map_ = command("map", "Map a virtual path to a real folder")
    virtual_paths(map_)
    map_.add_argument("path", metavar="PATH", help="the folder where the files are")
    virtual_paths(command("unmap", "Delete a mapping; its files are kept until the next update", aliases=["del"]))
    virtual_paths(command("lock", "Lock folders: do not scan them, take them for unchanged; without one list them"), "*")
    virtual_paths(command("unlock", "Unlock folders"), "+")
    virtual_paths(command("reset", "Clear the settings of folders"), "+")
    settings = command("set", "Configure folders; without options print what is set")
    virtual_paths(settings, "+")
    settings.add_argument("-j", "--json-settings", "--settings", metavar="JSON", help="the settings as a JSON object")
    settings.add_argument("-l", "--lock", action="store_true", help="lock the folders")
    settings.add_argument("-u", "--unlock", action="store_true", help="unlock the folders")
    settings.add_argument("-i", "--ignore", metavar="PATTERN", action="append", help=_IGNORE_HELP)
    settings.add_argument(
        "-a", "--append", action="store_true", help="append the patterns instead of replacing the old ones"
    )
    settings.add_argument("-p", "--priority", type=int, help="priority of the files there; 0 clears it")
    settings.add_argument("-m", "--maxcopies", type=int, help="most copies that the files there get; 0 clears it")
    settings.add_argument(
        "--copies",
        metavar="N",
        type=int,
        help="copies that the files there should have, and no more; 0 clears it: then as many as fit",
    )
    settings.add_argument("--hide", action="store_true", help="leave the folders out of the backup")
    settings.add_argument("--unhide", action="store_true", help="take them in again")
    settings.add_argument("--follow", action="store_true", help="follow symbolic links in the folder")
    settings.add_argument("--nofollow", action="store_true", help="keep symbolic links as links")


def _add_disk_commands(add: Add) -> None:
    disk = add("disk", "Manage backup disks; without a command list them")
    commands = disk.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, text: str, **more: Any) -> argparse.ArgumentParser:
        return add(name, text, commands, "disk ", **more)

    command("list", "List all disks")
    new = command("add", "Add a backup disk")
    new.add_argument("name", metavar="NAME", help="name of the disk, as on its label")
    new.add_argument("path", metavar="PATH", help="folder on the mounted disk where the backup shall lie")
    new.add_argument(
        "-s", "--size", help="how much of it may be filled, like 7.4T (default: all but 10 GB or 5%%, whichever is smaller)"
    )
    _add_location(new)
    new.add_argument(
        "--luks-key",
        metavar="FILE",
        help="key file of the LUKS container in which the disk lies; it is kept so that the daemon can unlock the disk",
    )
    _add_folder(new)
    change = command("set", "Set parameters of a backup disk")
    _add_disk(change)
    change.add_argument("-s", "--size", help="how much of it may be filled, like 7.4T")
    _add_location(change)
    change.add_argument("-p", "--path", metavar="PATH", help="folder where the backup lies")
    _add_folder(change)
    change.add_argument("-r", "--relpath", help="that folder relative to the disk's mount point")
    rename = command("rename", "Give a backup disk another name", aliases=["mv"])
    _add_disk(rename)
    rename.add_argument("newname", metavar="NEWNAME", help="new name of the disk")
    _add_disk(command("drop", "Forget all that a disk holds: it failed or is lost"))
    _add_disk(command("del", "Delete a disk that holds nothing (see 'disk drop')"))
    _add_disk(command("refresh", "Look what lies on a disk, and believe it"))


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder",
        action="store_true",
        help="take PATH although it is no disk of its own: a new folder, or one on the file system of the system, a source, "
        "the catalogue or another disk, in the network or in memory. Its copies count like others, but what takes that "
        "file system takes them too, and the daemon does not notice when it is there",
    )


def _add_location(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--location",
        metavar="PLACE",
        help="where the disk is kept (home, office, bank): copies prefer places that have none",
    )


def _add_backup_commands(add: Add) -> None:
    update = add("update", "Scan the sources: find and hash what is new or changed")
    _add_ignore_lock(update)
    update.add_argument("--confirm", action="store_true", help="read again all files that are believed, however many")
    backup = add("backup", "Back up to a disk")
    _add_disk(backup)
    backup.add_argument("-u", "--update", action="store_true", help="scan the sources first")
    _add_ignore_lock(backup)
    backup.add_argument("--limit", metavar="SIZE", help="copy at the most so much, like 200G")
    backup.add_argument("--maxcopies", metavar="N", type=int, help="make no copy of what has N copies already")
    backup.add_argument("--noflush", action="store_true", help="delete no redundant copies to make room")
    backup.add_argument("--simulate", action="store_true", help="print the plan with its reasons, change nothing")
    # distbackup's scripts give these; copies here are always flushed and hashed while they are copied.
    for option in ("--sync", "--nocopy"):
        backup.add_argument(option, action="store_true", help=argparse.SUPPRESS)
    backup.add_argument("--slack", help=argparse.SUPPRESS)
    for command in (update, backup):
        command.add_argument("--nohelper", action="store_true", help=argparse.SUPPRESS)
    _add_restore(add)
    _add_recover(add)
    _add_import(add)
    verify = add("verify", "Read all copies on a disk again and strike the bad ones; they are moved to 'bad-objects'")
    _add_disk(verify)
    verify.add_argument(
        "--restart", action="store_true", help="read everything again, also what an interrupted verification has read"
    )
    verify.add_argument(
        "-e", "--errors", metavar="FILE", help="write tab-separated errors to FILE, or to a descriptor like @3"
    )
    verify.add_argument("-s", "--start", help="first digits of the hash to begin with")
    verify.add_argument("-c", "--check", action="store_true", help="only report bad copies")
    verify.add_argument("-d", "--delete", action="store_true", help="delete bad copies instead of moving them")
    _add_heal(add)


def _add_heal(add: Add) -> None:
    heal = add("heal", "List source files whose content rotted where it lies, and bring their good content back")
    words = heal.add_argument("words", metavar="PATH", nargs="*", help="heal these files, or all that rotted below")
    words.completer = complete_virtual_path  # type: ignore[attr-defined]
    heal.add_argument("--all", action="store_true", help="heal all of them that nobody can have written on purpose")
    disk = heal.add_argument("--from", dest="disk", metavar="DISK", help="only from this disk")
    disk.completer = complete_disk  # type: ignore[attr-defined]
    heal.add_argument("--accept", action="store_true", help="take what the files hold now for right: then they have changed")


def _add_recover(add: Add) -> None:
    recover = add(
        "recover", "The catalogue is lost: take the newest copy from the disks that are here, and look them through"
    )
    recover.add_argument(
        "paths", metavar="PATH", nargs="*", help="where a backup lies, or a device to mount (default: what root mounted)"
    )
    recover.add_argument("--from", dest="disk", metavar="DISK", help="take the copy on this disk, whatever the others say")
    recover.add_argument("--copy", metavar="FILE", help="take this copy, such as a distbackup.sqlite.kept-1")
    recover.add_argument(
        "--last-good",
        action="store_true",
        help="take the copy beside the catalogue that was found sound last",
    )
    recover.add_argument("--yes", action="store_true", help="do not ask before the copy takes the catalogue's place")
    recover.add_argument(
        "--replace", action="store_true", help="put a copy in the place of a catalogue that is not lost; it is kept aside"
    )
    recover.add_argument(
        "--objects", metavar="DEST", help="copy all contents to DEST, named by their hashes; no catalogue is needed"
    )


def _add_import(add: Add) -> None:
    former = add("import-distbackup", "Take over what distbackup 1.0.20 knows: sources, settings, disks and hashes of files")
    former.add_argument(
        "folder", metavar="FOLDER", nargs="?", help="folder of its database (default: ~/.config/distbackup); it is only read"
    )


def _add_restore(add: Add) -> None:
    restore = add("restore", "Bring files back: '--to DEST [PATH ...]' from all disks it takes, 'DISK DEST' from one disk")
    words = restore.add_argument(
        "words", metavar="PATH", nargs="*", help="path or pattern of what to restore; without --to: DISK DEST"
    )
    words.completer = complete_restored  # type: ignore[attr-defined]
    restore.add_argument("--to", metavar="DEST", help="folder to restore to, from as few disks as it takes")
    restore.add_argument("--at", metavar="DATE", help="as it was known then: 2026-11-01 or '2026-11-01 14:30'")
    restore.add_argument("--minset", action="store_true", help="only print which disks are needed")
    without = restore.add_argument(
        "--without", metavar="DISK", action="append", default=[], help="do not ask for this disk; may be given several times"
    )
    without.completer = complete_disk  # type: ignore[attr-defined]
    restore.add_argument("--no-wait", action="store_true", help="take only the disks that are here, ask for none")
    pattern = restore.add_argument("-f", "--filter", metavar="PATTERN", help="restore only what matches, and what is below")
    pattern.completer = complete_virtual_path  # type: ignore[attr-defined]
    restore.add_argument("-l", "--link", action="store_true", help="make hard links to the disk's objects instead of copies")
    restore.add_argument(
        "-e", "--existing", metavar="PATH", action="append", default=[], help="ignore files that are present below PATH"
    )
    restore.add_argument("--overwrite", action="store_true", help="replace files at DEST whose content differs")
    restore.add_argument(
        "--numeric-owner", action="store_true", help="give owners by their numbers, not by the names that they had"
    )


def _add_report_commands(add: Add) -> None:
    brake = add("brake", "Say whether the brake is on: whether the sources look so wrong that nothing is deleted")
    brake_commands = brake.add_subparsers(title="commands", metavar="COMMAND")
    add("status", "Say whether it is on, since when and why", brake_commands, "brake ")
    add("release", "Let go: what changed until now is as it should be", brake_commands, "brake ")
    simulate = add("simulate", "Say what is lost if disks die, and what more disks, growth or a loss would change")
    simulate.add_argument(
        "--disks",
        metavar="SIZES",
        action="append",
        help="imagine these disks, not the real ones: 8T,8T,4T, or 0.4 of the data",
    )
    simulate.add_argument("--add", metavar="SIZES", action="append", help="imagine more disks beside the real ones")
    simulate.add_argument("--lose", metavar="NAME", action="append", help="imagine that this disk is lost")
    simulate.add_argument("--rounds", metavar="N", type=_positive, help="plug each disk in so often (default: 1)")
    simulate.add_argument(
        "--rebalance",
        metavar="SHARE",
        type=_share,
        help="so much of a disk may be written only to spread the risk, like 10%%",
    )
    simulate.add_argument("--growth", metavar="SHARE", type=_share, help="the data grows by so much a round, like 5%%")
    simulate.add_argument(
        "--synthetic",
        metavar="N:SEED",
        type=_synthetic,
        help="N made-up objects; the same SEED, the same objects",
    )
    info = add("info", "Report how much has how many copies, and what each disk holds")
    info.add_argument("--no-saturated", action="store_true", help="leave out of the disks' figures what has all its copies")
    files = add("ls", "List files with the disks that hold them")
    pattern = files.add_argument("pattern", metavar="PATTERN", nargs="?", help="only files that match, or lie below")
    pattern.completer = complete_virtual_path  # type: ignore[attr-defined]
    files.add_argument(
        "--problems",
        action="store_true",
        help="list instead what could not be read, is kept only nearly, or is of a kind that no backup keeps, and why",
    )
    disk = files.add_argument("-d", "--disk", metavar="NAME", help="only files on this disk")
    disk.completer = complete_disk  # type: ignore[attr-defined]
    log = add("log", "List all versions of files that were ever recorded, with the disks that still hold them")
    words = log.add_argument("words", metavar="PATH", nargs="*", help="only of files that match, or lie below")
    words.completer = complete_virtual_path  # type: ignore[attr-defined]
    changes = add("diff", "List what was new, changed or gone between two dates")
    changes.add_argument("before", metavar="DATE1", help="like 2026-11-01 (the end of that day) or '2026-11-01 14:30'")
    changes.add_argument("after", metavar="DATE2", nargs="?", help="default: now")
    pattern = changes.add_argument(
        "-f", "--filter", metavar="PATTERN", action="append", default=[], help="only what matches, or lies below"
    )
    pattern.completer = complete_virtual_path  # type: ignore[attr-defined]
    status = add("status", "Say what is going on, what is protected, and how the last sessions went")
    status.add_argument("-w", "--watch", action="store_true", help="go on saying what is going on, until Ctrl+C")


def _add_daemon_commands(add: Add) -> None:
    add("cancel", "Stop what the daemon is doing as soon as nothing is left half-done")
    _add_disk(add("eject", "Unmount a backup disk, lock it and switch it off, so that it may be unplugged"))
    add("pause", "Let the daemon rest: what it does stands still, and nothing new is begun")
    add("resume", "Let the daemon go on after a pause")


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of rounds; 1 to 1000 is meant")
    return number


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 10:
        raise argparse.ArgumentTypeError(f"'{text}' is no share; write it like 5%")
    return share


def _synthetic(text: str) -> tuple[int, int]:
    count, _, seed = text.partition(":")
    if not (count.isascii() and count.isdigit() and (seed or "0").isascii() and (seed or "0").isdigit() and len(text) < 30):
        raise argparse.ArgumentTypeError(f"'{text}' names no objects; write it like 200000:1")
    return int(count), int(seed or "0")


def _add_disk(parser: argparse.ArgumentParser, many: str | None = None) -> None:
    action = parser.add_argument("disk", metavar="DISK", nargs=many, help="name or UUID of the disk, or path of its data")
    action.completer = complete_disk  # type: ignore[attr-defined]


def _add_ignore_lock(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ignore-lock", action="store_true", help="scan locked folders too, and believe a source that turned empty"
    )
