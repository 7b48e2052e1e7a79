from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import subprocess
import threading

import pytest

from distbackupd.engine.ports import BadContent, EntryRefused, Placement, TargetTrouble
from distbackupd.model.errors import Interrupted
from distbackupd.model.files import INODE_FLAGS_SHIFT, Attributes, EntryFlag, EntryKind, InodeFlag, RestoreEntry
from distbackupd.sources.inode_flags import opened, read_flags, write_flags
from distbackupd.sources.restored_mark import MARK_NAME
from distbackupd.sources.target import FolderTarget
from tests.bed.programs import NOBODY
from tests.trees import acl, write_file

OWN = (os.getuid(), os.getgid())
MOMENT = 1_600_000_000_123_456_789
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


class Pulse(threading.Event):
    def beat(self, done_bytes: int) -> None:
        pass


def entry(path: bytes, kind=EntryKind.FILE, content=b"", flags=EntryFlag.NONE, target=b"", mode=0o640, xattrs=(), rdev=0):
    digest = hashlib.sha256(content).digest() if content else None
    attributes = Attributes(mode, *OWN, rdev, xattrs)
    return RestoreEntry(path, kind, len(content), MOMENT, 1, 2, flags, attributes, target, digest, frozenset({1}))


def folder(path: bytes, mode=0o750, xattrs=()):
    return entry(path, EntryKind.FOLDER, mode=mode, xattrs=xattrs)


@pytest.fixture
def target(tmp_path):
    with FolderTarget(os.fsencode(tmp_path / "destination")) as target:
        yield target


@pytest.fixture
def place(target, tmp_path):
    """Place a file whose object holds ``content``."""

    def place(wanted, content=None, overwrite=False, pulse=None):
        path = tmp_path / "object"
        opened = None
        if content is not None:
            write_file(path, content)
            opened = lambda: os.open(path, os.O_RDONLY)  # noqa: E731
        return target.place(wanted, opened, pulse or Pulse(), overwrite)

    return place


@pytest.fixture
def destination(tmp_path):
    path = tmp_path / "destination"
    path.mkdir()
    return path


def everything_in(path):
    """Without the mark that a restore sets until its end."""
    found = (os.path.join(base, name) for base, folders, files in os.walk(path) for name in folders + files)
    return sorted(each for each in found if os.fsencode(os.path.basename(each)) != MARK_NAME)


def names_in(path):
    return [os.path.relpath(each, path) for each in everything_in(path)]


def test_place_new_file_writes_content_and_metadata(place, destination):
    wanted = entry(b"/a/b/file", content=b"hello", mode=0o4751, xattrs=((b"user.x", b"\0y"),))
    assert place(wanted, b"hello") is Placement.RESTORED
    state = os.stat(destination / "a/b/file")
    assert (destination / "a/b/file").read_bytes() == b"hello"
    assert (stat.S_IMODE(state.st_mode), state.st_mtime_ns) == (0o4751, MOMENT)
    assert os.getxattr(destination / "a/b/file", "user.x") == b"\0y"
    assert len(everything_in(destination)) == 3


@pytest.mark.parametrize(
    "path", [b"/../outside", b"/a/../../outside", b"/a/..", b"/.", b"/a//b", b"/a/./b", b"/nul\0", b"/nul\0/x", b"/a/", b""]
)
@pytest.mark.parametrize("kind", [EntryKind.FILE, EntryKind.FOLDER, EntryKind.SYMBOLIC_LINK])
def test_place_path_that_leads_outside_is_refused(target, tmp_path, path, kind):
    (tmp_path / "destination" / "a").mkdir(parents=True)
    before = everything_in(tmp_path)
    hostile = entry(path, kind, target=b"/etc")
    write = functools.partial(target.place, open_content=None, pulse=Pulse(), overwrite=True)
    with pytest.raises(EntryRefused, match="outside"):
        (target.make_folder if kind is EntryKind.FOLDER else write)(hostile)
    assert everything_in(tmp_path) == before


def test_place_link_in_the_middle_of_the_path_touches_nothing_behind_it(target, place, destination, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    write_file(outside / "file", b"mine")
    before = os.stat(outside)
    os.symlink(outside, destination / "a")
    assert place(entry(b"/a/file", content=b"theirs"), b"theirs", overwrite=True) is Placement.IN_THE_WAY
    assert target.make_folder(folder(b"/a")) is Placement.IN_THE_WAY
    assert target.make_folder(folder(b"/a/below")) is Placement.IN_THE_WAY
    assert target.link(entry(b"/copy"), b"/a/file", overwrite=True) is Placement.NOT_KEPT
    target.finish()
    after = os.stat(outside)
    assert (outside / "file").read_bytes() == b"mine"
    assert (before.st_mode, before.st_mtime_ns) == (after.st_mode, after.st_mtime_ns)
    assert os.listdir(outside) == ["file"]


def test_place_while_somebody_races_links_in_touches_nothing_outside(target, place, destination, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    over = threading.Event()

    def race():
        while not over.is_set():
            with contextlib.suppress(OSError):
                os.rename(destination / "a", destination / "b")
                os.symlink(outside, destination / "a")
                os.unlink(destination / "a")
                os.rename(destination / "b", destination / "a")

    racer = threading.Thread(target=race)
    racer.start()
    try:
        for number in range(300):
            with FolderTarget(os.fsencode(destination)) as fresh, contextlib.suppress(EntryRefused):
                fresh.make_folder(folder(b"/a", mode=0o777))
                fresh.place(entry(b"/a/c/file%d" % number), None, Pulse(), overwrite=True)
                fresh.finish()
    finally:
        over.set()
        racer.join()
    assert os.listdir(outside) == []


def test_finish_folder_became_a_link_meanwhile_touches_nothing_behind_it(target, destination, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o711)
    target.make_folder(folder(b"/a", mode=0o777))
    os.rename(destination / "a", destination / "moved")
    os.symlink(outside, destination / "a")
    assert target.finish() == {"metadata of a folder": 1}
    assert stat.S_IMODE(outside.stat().st_mode) == 0o711


def test_place_over_a_link_at_the_end_replaces_the_link_only(place, destination, tmp_path):
    write_file(tmp_path / "outside", b"mine")
    os.symlink(tmp_path / "outside", destination / "file")
    assert place(entry(b"/file", content=b"new"), b"new") is Placement.IN_THE_WAY
    assert place(entry(b"/file", content=b"new"), b"new", overwrite=True) is Placement.RESTORED
    assert (tmp_path / "outside").read_bytes() == b"mine"
    assert not (destination / "file").is_symlink()


def test_place_right_file_is_left_alone_and_its_metadata_repaired(place, destination):
    write_file(destination / "file", b"right")
    os.utime(destination / "file", ns=(MOMENT, MOMENT))
    os.chmod(destination / "file", 0o777)
    os.setxattr(destination / "file", "user.stray", b"x")
    inode = os.stat(destination / "file").st_ino
    assert place(entry(b"/file", content=b"right"), b"never read") is Placement.LEFT_ALONE
    state = os.stat(destination / "file")
    assert (state.st_ino, stat.S_IMODE(state.st_mode), state.st_mtime_ns) == (inode, 0o640, MOMENT)
    assert os.listxattr(destination / "file") == []


@pytest.mark.parametrize(("content", "moment"), [(b"other size", MOMENT), (b"equal", MOMENT + 1), (b"wante", MOMENT + 1)])
def test_place_file_that_differs_stays_unless_overwritten(place, destination, content, moment):
    write_file(destination / "file", content)
    os.utime(destination / "file", ns=(moment, moment))
    assert place(entry(b"/file", content=b"wante"), b"wante") is Placement.IN_THE_WAY
    assert (destination / "file").read_bytes() == content
    replaced = Placement.LEFT_ALONE if content == b"wante" else Placement.RESTORED
    assert place(entry(b"/file", content=b"wante"), b"wante", overwrite=True) is replaced
    assert (destination / "file").read_bytes() == b"wante"
    assert names_in(destination) == ["file"]


def test_place_overwriting_compares_contents_not_sizes_and_times(target, place, destination):
    write_file(destination / "file", b"wrong")
    os.utime(destination / "file", ns=(MOMENT, MOMENT))
    wanted = entry(b"/file", content=b"right")
    assert place(wanted, b"right") is Placement.LEFT_ALONE  # by size and time, which is all that is looked at
    assert target.foresee(wanted, overwrite=True) is Placement.RESTORED
    assert place(wanted, b"right", overwrite=True) is Placement.RESTORED
    assert (destination / "file").read_bytes() == b"right"
    os.utime(destination / "file", ns=(5, 5))
    inode = os.stat(destination / "file").st_ino
    assert target.foresee(wanted, overwrite=True) is Placement.LEFT_ALONE
    assert place(wanted, b"never read", overwrite=True) is Placement.LEFT_ALONE
    state = os.stat(destination / "file")
    assert (state.st_ino, state.st_mtime_ns) == (inode, MOMENT)


def test_place_overwriting_stopped_while_it_compares_ends_soon_and_changes_nothing(target, destination):
    content = bytes(4 << 20)
    write_file(destination / "file", content)
    pulse = Pulse()
    pulse.set()
    with pytest.raises(Interrupted):
        target.foresee(entry(b"/file", content=content), overwrite=True, pulse=pulse)
    assert (destination / "file").read_bytes() == content


@pytest.fixture
def locked_place(tmp_path):
    """A folder whose locks go before it does."""
    yield tmp_path
    subprocess.run(["chattr", "-R", "-i", "-a", tmp_path], capture_output=True, check=False)


def flagged(path, kind=EntryKind.FILE, content=b"", chattr=InodeFlag.IMMUTABLE, flags=EntryFlag.NONE, **more):
    return entry(path, kind, content, EntryFlag(flags | chattr << INODE_FLAGS_SHIFT), **more)


def flags_of(path):
    with opened(os.open(os.path.dirname(path), os.O_PATH), os.fsencode(os.path.basename(path))) as descriptor:
        return read_flags(descriptor)


@pytest.mark.needs("root", "chattr")
def test_flags_of_chattr_are_restored_last_and_again_without_trouble(locked_place, target, place, destination):
    folder_flags = InodeFlag.IMMUTABLE | InodeFlag.NO_DUMP
    for _ in range(3):
        locked = entry(b"/locked", EntryKind.FOLDER, flags=EntryFlag(folder_flags << INODE_FLAGS_SHIFT))
        first = target.make_folder(locked)
        results = [
            place(flagged(b"/locked/file", content=b"one"), b"one"),
            place(flagged(b"/locked/log", content=b"two", chattr=InodeFlag.APPEND_ONLY | InodeFlag.NO_ACCESS_TIME), b"two"),
            place(flagged(b"/locked/plain", content=b"three", chattr=InodeFlag.NONE), b"three"),
        ]
        assert set(results) == {first}
        assert target.finish() == {}
        assert flags_of(destination / "locked") == folder_flags
        assert flags_of(destination / "locked/file") == InodeFlag.IMMUTABLE
        assert flags_of(destination / "locked/log") == InodeFlag.APPEND_ONLY | InodeFlag.NO_ACCESS_TIME
        assert flags_of(destination / "locked/plain") == InodeFlag.NONE
        assert stat.S_IMODE(os.stat(destination / "locked").st_mode) == 0o640
    # From the next disk something comes into the immutable folder, and metadata that went wrong is mended.
    subprocess.run(["chattr", "-i", destination / "locked/file"], check=True)
    os.chmod(destination / "locked/file", 0o777)
    subprocess.run(["chattr", "+i", destination / "locked/file"], check=True)
    target.make_folder(locked)
    assert place(flagged(b"/locked/file", content=b"one"), b"one") is Placement.LEFT_ALONE
    assert place(flagged(b"/locked/more", content=b"four"), b"four") is Placement.RESTORED
    assert place(flagged(b"/locked/file", content=b"five5"), b"five5", overwrite=True) is Placement.RESTORED
    assert target.finish() == {}
    assert (destination / "locked/file").read_bytes() == b"five5"
    assert stat.S_IMODE(os.stat(destination / "locked/file").st_mode) == 0o640
    assert {flags_of(destination / "locked" / name) for name in ("file", "more")} == {InodeFlag.IMMUTABLE}


@pytest.mark.needs("root", "chattr")
def test_flags_of_an_immutable_file_with_two_names(locked_place, target, place, destination):
    names = [flagged(b"/%d" % number, content=b"same", flags=EntryFlag.LINKED) for number in range(3)]
    place(names[0], b"same")
    assert target.link(names[1], b"/0", overwrite=False) is Placement.RESTORED
    assert target.finish() == {}
    assert target.link(names[1], b"/0", overwrite=False) is Placement.LEFT_ALONE
    assert target.link(names[2], b"/0", overwrite=False) is Placement.RESTORED
    assert target.finish() == {}
    assert flags_of(destination / "1") == InodeFlag.IMMUTABLE
    assert os.stat(destination / "0").st_nlink == 3


@pytest.mark.needs("root", "chattr")
def test_flags_that_somebody_else_set_at_the_destination_are_respected(locked_place, target, place, destination):
    write_file(destination / "file", b"theirs")
    subprocess.run(["chattr", "+i", destination / "file"], check=True)
    with pytest.raises(EntryRefused, match="it cannot be written: Operation not permitted"):
        place(entry(b"/file", content=b"ours"), b"ours", overwrite=True)
    assert (destination / "file").read_bytes() == b"theirs"
    assert names_in(destination) == ["file"]


@pytest.mark.needs("root", "chattr")
def test_flags_that_the_destination_does_not_have_are_listed_and_the_others_set(locked_place, target, place, destination):
    wanted = flagged(b"/file", content=b"x", chattr=InodeFlag.NO_COPY_ON_WRITE | InodeFlag.NO_DUMP)
    assert place(wanted, b"x") is Placement.RESTORED
    assert target.finish() == {"flag of chattr": 1}
    assert flags_of(destination / "file") == InodeFlag.NO_DUMP


def test_flags_nobody_can_set_are_told_not_raised(tmp_path):
    read, write = os.pipe()
    assert write_flags(read, InodeFlag.NO_DUMP) == InodeFlag.NO_DUMP
    os.close(read)
    os.close(write)


def test_place_file_with_a_time_as_fat_keeps_it_is_right(place, destination):
    write_file(destination / "file", b"right")
    kept = MOMENT // 2_000_000_000 * 2_000_000_000
    os.utime(destination / "file", ns=(kept, kept))
    assert place(entry(b"/file", content=b"right"), b"right") is Placement.LEFT_ALONE


def test_place_folder_in_the_way_is_never_replaced(target, place, destination):
    (destination / "file").mkdir()
    assert place(entry(b"/file", content=b"x"), b"x", overwrite=True) is Placement.IN_THE_WAY
    write_file(destination / "folder", b"")
    assert target.make_folder(folder(b"/folder")) is Placement.IN_THE_WAY
    assert place(entry(b"/folder/file", content=b"x"), b"x", overwrite=True) is Placement.IN_THE_WAY


@pytest.mark.parametrize("found", [b"damaged", b"short", b"much longer than it", b""])
def test_place_content_that_does_not_match_its_name_leaves_nothing(place, destination, found):
    with pytest.raises(BadContent, match="not what its name says"):
        place(entry(b"/file", content=b"correct"), found)
    assert names_in(destination) == []


def test_place_bad_content_over_an_existing_file_keeps_it(place, destination):
    write_file(destination / "file", b"old")
    with pytest.raises(BadContent):
        place(entry(b"/file", content=b"correct"), b"damaged", overwrite=True)
    assert (destination / "file").read_bytes() == b"old"


def test_place_missing_object_says_so(target, destination):
    def missing():
        raise FileNotFoundError

    with pytest.raises(BadContent, match="missing"):
        target.place(entry(b"/file", content=b"x"), missing, Pulse(), overwrite=False)
    assert names_in(destination) == []


def test_place_stopped_in_the_middle_leaves_nothing(place, destination):
    content = bytes(3 << 20)
    pulse = Pulse()
    pulse.set()
    with pytest.raises(Interrupted):
        place(entry(b"/file", content=content), content, pulse=pulse)
    assert names_in(destination) == []


def test_place_leftover_of_a_killed_restore_is_replaced(place, destination, monkeypatch):
    class Killed(BaseException):
        pass

    def rename(*words, **more):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        patch.setattr(os, "unlink", lambda *words, **more: None)
        with pytest.raises(Killed):
            place(entry(b"/file", content=b"half"), b"half")
    assert len(names_in(destination)) == 1
    assert place(entry(b"/file", content=b"whole"), b"whole") is Placement.RESTORED
    assert names_in(destination) == ["file"]


@pytest.mark.parametrize(
    "content",
    [
        bytes(2 << 20),
        bytes(1 << 20) + b"x",
        b"x" + bytes(3 << 20) + b"yy" + bytes(100_001),
        bytes(4096) + b"a" * 4096 + bytes(4097),
    ],
)
def test_place_sparse_file_has_holes_and_the_same_content(place, destination, content):
    assert place(entry(b"/file", content=content, flags=EntryFlag.SPARSE), content) is Placement.RESTORED
    assert (destination / "file").read_bytes() == content
    assert os.stat(destination / "file").st_blocks * 512 < len(content)


def test_place_symbolic_link_of_any_target_is_restored_with_its_time(place, destination):
    for number, aim in enumerate([b"../../../etc/passwd", b"/", b"\xff\n", b"x" * 4000]):
        wanted = entry(b"/link%d" % number, EntryKind.SYMBOLIC_LINK, target=aim)
        assert place(wanted) is Placement.RESTORED
        assert place(wanted) is Placement.LEFT_ALONE
        path = os.fsencode(destination) + b"/link%d" % number
        assert (os.readlink(path), os.lstat(path).st_mtime_ns) == (aim, MOMENT)
    other = entry(b"/link0", EntryKind.SYMBOLIC_LINK, target=b"elsewhere")
    assert place(other) is Placement.IN_THE_WAY
    assert place(other, overwrite=True) is Placement.RESTORED


def test_place_name_longer_than_the_file_system_takes_is_refused_alone(place, destination):
    with pytest.raises(EntryRefused, match="too long"):
        place(entry(b"/" + b"n" * 256, content=b"x"), b"x")
    assert place(entry(b"/" + b"n" * 255, content=b"x"), b"x") is Placement.RESTORED


def test_place_path_longer_than_the_kernel_takes_at_once_is_restored(target, place, destination, request):
    # pytest removes what tests leave, but recursively: this is too deep for it.
    request.addfinalizer(lambda: subprocess.run(["rm", "-rf", destination], check=True))
    path = b"".join(b"/%04d" % number for number in range(1500))
    for depth in range(5, len(path) + 1, 5):
        target.make_folder(folder(path[:depth], mode=0o700))
    assert place(entry(path + b"/file", content=b"deep"), b"deep") is Placement.RESTORED
    assert place(entry(path + b"/file", content=b"deep"), b"deep") is Placement.LEFT_ALONE
    assert target.finish() == {}
    descriptor = os.open(destination, os.O_RDONLY)
    for number in range(1500):
        below = os.open(f"{number:04}", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    assert (os.listdir(descriptor), os.fstat(descriptor).st_mtime_ns) == (["file"], MOMENT)
    os.close(descriptor)


def test_make_folder_keeps_others_out_until_it_is_finished(target, place, destination):
    default = (b"system.posix_acl_default", acl(OWN[0] or 12))
    assert target.make_folder(folder(b"/a", mode=0o2777, xattrs=(default,))) is Placement.RESTORED
    assert stat.S_IMODE(os.stat(destination / "a").st_mode) == 0o700
    place(entry(b"/a/file", content=b"x"), b"x")
    assert os.listxattr(destination / "a/file") == []
    assert target.finish() == {}
    state = os.stat(destination / "a")
    assert (stat.S_IMODE(state.st_mode), state.st_mtime_ns) == (0o2777, MOMENT)


def test_place_into_a_folder_with_a_default_acl_takes_nothing_of_it(place, destination):
    (destination / "a").mkdir()
    os.setxattr(destination / "a", "system.posix_acl_default", acl(OWN[0] or 12))
    place(entry(b"/a/file", content=b"x", mode=0o600), b"x")
    assert os.listxattr(destination / "a/file") == []
    assert stat.S_IMODE(os.stat(destination / "a/file").st_mode) == 0o600


def test_make_folder_for_the_root_in_use_keeps_its_metadata(tmp_path):
    (tmp_path / "used").mkdir(mode=0o711)
    write_file(tmp_path / "used/file", b"")
    with FolderTarget(os.fsencode(tmp_path / "used")) as target:
        target.make_folder(folder(b"/", mode=0o700))
        target.finish()
    assert stat.S_IMODE((tmp_path / "used").stat().st_mode) == 0o711


def test_make_folder_for_a_new_root_gives_it_its_metadata(target, tmp_path):
    target.make_folder(folder(b"/", mode=0o701))
    target.finish()
    state = (tmp_path / "destination").stat()
    assert (stat.S_IMODE(state.st_mode), state.st_mtime_ns) == (0o701, MOMENT)


def test_link_second_name_becomes_the_same_file(target, place, destination):
    place(entry(b"/one", content=b"same"), b"same")
    assert target.link(entry(b"/a/two", content=b"same"), b"/one", overwrite=False) is Placement.RESTORED
    assert target.link(entry(b"/a/two", content=b"same"), b"/one", overwrite=False) is Placement.LEFT_ALONE
    assert os.path.samefile(destination / "one", destination / "a/two")


def test_link_right_copy_becomes_a_link_and_another_file_stays(target, place, destination):
    place(entry(b"/one", content=b"same"), b"same")
    place(entry(b"/two", content=b"same"), b"same")
    write_file(destination / "three", b"mine")
    assert target.link(entry(b"/two", content=b"same"), b"/one", overwrite=False) is Placement.RESTORED
    assert target.link(entry(b"/three", content=b"same"), b"/one", overwrite=False) is Placement.IN_THE_WAY
    assert target.link(entry(b"/three", content=b"same"), b"/one", overwrite=True) is Placement.RESTORED
    assert {os.stat(destination / name).st_nlink for name in ("one", "two", "three")} == {3}
    assert len(names_in(destination)) == 3


def test_link_symbolic_link_links_the_link_itself(target, place, destination):
    place(entry(b"/one", EntryKind.SYMBOLIC_LINK, target=b"/etc/passwd"))
    wanted = entry(b"/two", EntryKind.SYMBOLIC_LINK, target=b"/etc/passwd")
    assert target.link(wanted, b"/one", overwrite=False) is Placement.RESTORED
    assert os.lstat(destination / "two").st_ino == os.lstat(destination / "one").st_ino


def test_link_content_makes_the_object_itself_a_name_here(target, destination, tmp_path):
    write_file(tmp_path / "object", b"content")
    opened = lambda: os.open(tmp_path / "object", os.O_RDONLY)  # noqa: E731
    assert target.link_content(entry(b"/file", content=b"content"), opened, overwrite=False) is Placement.RESTORED
    assert os.path.samefile(destination / "file", tmp_path / "object")
    assert target.finish() == {"metadata of a file that is the object itself": 1}
    with pytest.raises(BadContent, match="size"):
        target.link_content(entry(b"/other", content=b"longer content"), opened, overwrite=False)


def test_foresee_tells_and_changes_nothing(target, tmp_path):
    assert target.foresee(entry(b"/a/file", content=b"x"), overwrite=False) is Placement.RESTORED
    assert not (tmp_path / "destination").exists()
    (tmp_path / "destination").mkdir()
    write_file(tmp_path / "destination/a", b"")
    assert target.foresee(entry(b"/a/file", content=b"x"), overwrite=False) is Placement.IN_THE_WAY
    assert target.foresee(entry(b"/b/file", content=b"x"), overwrite=False) is Placement.RESTORED
    assert target.foresee(folder(b"/a"), overwrite=True) is Placement.IN_THE_WAY
    assert names_in(tmp_path / "destination") == ["a"]


def test_root_that_is_a_file_is_said_in_a_sentence(tmp_path):
    write_file(tmp_path / "file", b"")
    with FolderTarget(os.fsencode(tmp_path / "file")) as target, pytest.raises(TargetTrouble, match="nothing was restored"):
        target.make_folder(folder(b"/a"))


@pytest.mark.needs("root")
def test_place_destination_is_full_says_so_and_keeps_what_is_there(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], check=True)
    try:
        with FolderTarget(os.fsencode(tmp_path / "destination")) as target:
            small, large = b"s" * 1000, bytes(range(256)) * 8192
            write_file("/dev/shm/distbackupd-test-object", large)
            read = lambda: os.open("/dev/shm/distbackupd-test-object", os.O_RDONLY)  # noqa: E731
            write_file("/dev/shm/distbackupd-test-small", small)
            read_small = lambda: os.open("/dev/shm/distbackupd-test-small", os.O_RDONLY)  # noqa: E731
            target.place(entry(b"/small", content=small), read_small, Pulse(), overwrite=False)
            with pytest.raises(TargetTrouble, match="is full; what was restored stays"):
                target.place(entry(b"/large", content=large), read, Pulse(), overwrite=False)
        assert names_in(tmp_path / "destination") == ["small"]
    finally:
        for name in ("object", "small"):
            os.unlink(f"/dev/shm/distbackupd-test-{name}")
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.needs("root")
def test_place_device_nodes_and_fifo_are_restored(place, destination):
    device = os.makedev(1, 3)
    assert place(entry(b"/null", EntryKind.CHARACTER_DEVICE, rdev=device, mode=0o666)) is Placement.RESTORED
    assert place(entry(b"/fifo", EntryKind.FIFO, mode=0o622)) is Placement.RESTORED
    assert os.lstat(destination / "null").st_rdev == device
    assert stat.S_ISFIFO(os.lstat(destination / "fifo").st_mode)
    assert place(entry(b"/null", EntryKind.CHARACTER_DEVICE, rdev=device)) is Placement.LEFT_ALONE
    assert place(entry(b"/null", EntryKind.CHARACTER_DEVICE, rdev=device + 1)) is Placement.IN_THE_WAY


def plant(path, content, mode=0o644, owner=NOBODY):
    write_file(path, content)
    os.chown(path, owner, owner)
    os.chmod(path, mode)
    os.utime(path, ns=(MOMENT, MOMENT))


@pytest.mark.needs("root")
def test_place_file_that_somebody_else_owns_is_replaced_by_a_copy_that_is_hashed(target, place, destination):
    plant(destination / "right", b"right")
    plant(destination / "false", b"false")
    held = {name: os.open(destination / name, os.O_RDONLY) for name in ("right", "false")}
    assert place(entry(b"/right", content=b"right", mode=0o4755)) is Placement.LEFT_ALONE
    wanted = entry(b"/false", content=b"wrong", mode=0o4755)
    with pytest.raises(EntryRefused):
        target.place(wanted, elsewhere, Pulse(), overwrite=False)
    assert os.stat(destination / "false").st_uid == NOBODY
    assert target.foresee(wanted, overwrite=False) is Placement.RESTORED
    assert place(wanted, b"wrong") is Placement.RESTORED
    for name, descriptor in held.items():
        assert stat.S_IMODE(os.stat(destination / name).st_mode) == 0o4755
        assert (os.fstat(descriptor).st_uid, stat.S_IMODE(os.fstat(descriptor).st_mode)) == (NOBODY, 0o644)
        os.close(descriptor)
    assert (destination / "false").read_bytes() == b"wrong"


def elsewhere():
    raise EntryRefused("it lies on another disk")


@pytest.mark.needs("root")
@pytest.mark.parametrize("more", [{"mode": 0o644}, {"xattrs": ((b"security.capability", CAPABILITY),)}])
def test_place_where_others_may_write_rights_go_to_a_new_file_only(place, destination, more):
    os.chmod(destination, 0o777)
    plant(destination / "file", b"right", 0o600, 0)
    held = os.open(destination / "file", os.O_RDONLY)
    assert place(entry(b"/file", content=b"right", **more)) is Placement.LEFT_ALONE
    assert os.stat(destination / "file").st_ino != os.fstat(held).st_ino
    assert (stat.S_IMODE(os.fstat(held).st_mode), os.listxattr(held)) == (0o600, [])
    os.close(held)


def test_place_right_file_in_a_folder_of_ones_own_gets_its_mode_without_being_copied(place, destination):
    write_file(destination / "file", b"right")
    os.utime(destination / "file", ns=(MOMENT, MOMENT))
    os.chmod(destination / "file", 0o400)
    inode = os.stat(destination / "file").st_ino
    assert place(entry(b"/file", content=b"right", mode=0o644)) is Placement.LEFT_ALONE
    state = os.stat(destination / "file")
    assert (state.st_ino, stat.S_IMODE(state.st_mode)) == (inode, 0o644)


@pytest.mark.needs("root")
@pytest.mark.parametrize("kind", [EntryKind.SYMBOLIC_LINK, EntryKind.FIFO])
def test_place_special_entry_of_somebody_else_is_made_anew(place, destination, kind):
    os.symlink(b"aim", destination / "entry") if kind is EntryKind.SYMBOLIC_LINK else os.mkfifo(destination / "entry")
    os.chown(destination / "entry", NOBODY, NOBODY, follow_symlinks=False)
    held = os.open(destination / "entry", os.O_PATH | os.O_NOFOLLOW)
    for _ in range(2):
        assert place(entry(b"/entry", kind, target=b"aim")) is Placement.LEFT_ALONE
        assert os.lstat(destination / "entry").st_uid == 0
    assert os.fstat(held).st_uid == NOBODY
    os.close(held)


@pytest.mark.needs("root")
def test_make_folder_names_exchanged_before_it_is_finished_give_nobody_anything(target, place, destination):
    os.chmod(destination, 0o777)
    (destination / "private").mkdir(mode=0o700)
    target.make_folder(folder(b"/home")._replace(attributes=Attributes(0o755, NOBODY, NOBODY)))
    os.rename(destination / "home", destination / "aside")
    os.rename(destination / "private", destination / "home")
    with pytest.raises(EntryRefused, match="another folder took the place"):
        place(entry(b"/home/file", content=b"x"), b"x")
    assert target.finish() == {"metadata of a folder": 1}
    state = os.stat(destination / "home")
    assert (state.st_uid, stat.S_IMODE(state.st_mode), os.listdir(destination / "home")) == (0, 0o700, [])


@pytest.mark.needs("root")
def test_make_folder_of_somebody_else_where_others_may_write_is_closed(target, place, destination):
    os.chmod(destination, 0o777)
    for name in ("full", "empty"):
        (destination / name).mkdir()
        os.chown(destination / name, NOBODY, NOBODY)
    write_file(destination / "full/theirs", b"")
    with pytest.raises(EntryRefused, match="a folder of somebody else stands in its place, where others may write"):
        target.make_folder(folder(b"/full"))
    with pytest.raises(EntryRefused, match="the folder above it is somebody else's"):
        place(entry(b"/full/deep/file", content=b"x"), b"x")
    assert target.make_folder(folder(b"/empty")) is Placement.RESTORED
    target.finish()
    assert [os.stat(destination / name).st_uid for name in ("full", "empty")] == [NOBODY, 0]
    assert os.listdir(destination / "full") == ["theirs"]


@pytest.mark.needs("root")
def test_link_first_name_exchanged_meanwhile_is_not_linked(target, place, destination):
    place(entry(b"/one", content=b"same", flags=EntryFlag.LINKED), b"same")
    os.rename(destination / "one", destination / "aside")
    plant(destination / "one", b"evil")
    assert (
        target.link(entry(b"/two", content=b"same", flags=EntryFlag.LINKED), b"/one", overwrite=False) is Placement.NOT_KEPT
    )
    assert not (destination / "two").exists()


def test_finish_locks_no_file_that_came_into_the_place(target, place, destination):
    place(flagged(b"/file", content=b"ours"), b"ours")
    os.rename(destination / "file", destination / "aside")
    write_file(destination / "file", b"theirs")
    assert target.finish() == {"flag of chattr": 1}
    write_file(destination / "file", b"still theirs")


def test_root_of_the_tree_keeps_others_out_until_it_is_finished(target, tmp_path):
    target.make_folder(folder(b"/", mode=0o750))
    assert stat.S_IMODE((tmp_path / "destination").stat().st_mode) == 0o700
    target.finish()
    assert stat.S_IMODE((tmp_path / "destination").stat().st_mode) == 0o750


def test_root_that_became_a_link_is_not_followed(tmp_path):
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "link")
    with FolderTarget(os.fsencode(tmp_path / "link/destination")) as target, pytest.raises(TargetTrouble):
        target.make_folder(folder(b"/a"))
    assert os.listdir(tmp_path / "real") == []
