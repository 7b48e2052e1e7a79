"""Who keeps a mount busy, in words for a person. As a program it tells of the mount point that it is given."""

from __future__ import annotations

import glob
import logging
import os
import sys
from collections.abc import Iterator

from distbackupd.hotplug.commands import CommandFailed, Commands
from distbackupd.hotplug.mountinfo import read_mountinfo
from distbackupd.model.text import printable

_log = logging.getLogger(__name__)

_LONGEST_LIST = 5


def users_of(mount_point: bytes, commands: Commands) -> list[str]:
    """What keeps the mount from being unmounted: ``PID 123 (bash)``, a mount below it, a loop device on a file of it.

    Five at the most, then how many more. Empty when nobody is found; only root sees the processes of others, and in the
    helper's sandbox not even root: it is asked for from outside. Never touches the file systems of open files, so it does
    not hang where one of them does.
    """
    if not commands.delegated:
        return _find(mount_point)
    try:
        return commands.run_module("distbackupd.hotplug.users", mount_point).decode("utf-8", "replace").splitlines()
    except CommandFailed as error:
        _log.info("who keeps %s busy cannot be asked: %s", printable(mount_point), printable(str(error)))
        return []


def is_below(path: bytes, folder: bytes) -> bool:
    """Whether ``path`` is the folder or lies somewhere in it, by name."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _find(mount_point: bytes) -> list[str]:
    found = [*_mounts_below(mount_point), *_loop_devices(mount_point), *_processes(mount_point)]
    if len(found) > _LONGEST_LIST:
        return [*found[:_LONGEST_LIST], f"{len(found) - _LONGEST_LIST} more"]
    return found


def _mounts_below(mount_point: bytes) -> Iterator[str]:
    for line in read_mountinfo():
        if line.mount_point != mount_point and is_below(line.mount_point, mount_point):
            yield f"what is mounted at {printable(line.mount_point)}"


def _loop_devices(mount_point: bytes) -> Iterator[str]:
    for path in glob.glob("/sys/class/block/loop*/loop/backing_file"):
        try:
            with open(path, "rb") as backing:
                file = backing.read().rstrip(b"\n")
        except OSError:
            continue
        if is_below(file, mount_point):
            yield f"/dev/{path.split('/')[4]} (attached to {printable(file)})"


def _processes(mount_point: bytes) -> Iterator[str]:
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if any(is_below(path, mount_point) for path in _paths_in_use(pid)):
            yield f"PID {pid} ({_command_name(pid)})"


def _paths_in_use(pid: int) -> Iterator[bytes]:
    process = b"/proc/%d" % pid
    links = [process + b"/cwd", process + b"/root", process + b"/exe"]
    for folder in (b"fd", b"map_files"):
        try:
            links += [process + b"/" + folder + b"/" + name for name in os.listdir(process + b"/" + folder)]
        except OSError:
            continue
    for link in links:
        try:
            yield os.readlink(link)
        except OSError:
            continue


def _command_name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as comm:
            return printable(comm.read().rstrip(b"\n"))
    except OSError:
        return "just ended"


if __name__ == "__main__":
    sys.stdout.write("".join(f"{user}\n" for user in _find(os.fsencode(sys.argv[1]))))
