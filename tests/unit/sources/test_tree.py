"""Listing and reading real folders and files."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

import pytest

from distbackupd.model.errors import Interrupted, SourceChanged, SourceTrouble
from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind, ProblemKind, WaitingFile
from distbackupd.model.problems import FoundProblem
from distbackupd.model.sources import RealPath
from distbackupd.sources.tree import FolderTree
from distbackupd.streams import CHUNK
from tests.fakes.stopping import Never, StopWhen
from tests.trees import build_deep_path, build_nasty_tree

NEVER = Never()


@pytest.fixture
def tree() -> FolderTree:
    return FolderTree()


def place(path: bytes | str | Path) -> RealPath:
    return RealPath(os.fsencode(path))


def look(tree: FolderTree, folder: bytes | Path, wanted: Any = lambda _name: 1, follow: bool = False) -> Any:
    """All entries of the folder, and all problems."""
    parts = list(tree.list_folder(place(folder), wanted, follow))
    return [entry for part in parts for entry in part.entries], [item for part in parts for item in part.problems]


def is_skipped(tree: FolderTree, folder: Path) -> bool:
    return any(part.skipped for part in tree.list_folder(place(folder), lambda _name: 1, False))


def listed(tree: FolderTree, folder: Path, follow: bool = False) -> dict[bytes, Entry]:
    entries, problems = look(tree, folder, follow=follow)
    assert problems == []
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    return {entry.name: entry for entry in entries}


def waiting(path: Path) -> WaitingFile:
    state = path.stat()
    return WaitingFile(1, b"/x", state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_dev, state.st_ino)


# --- listing ---------------------------------------------------------------------------------------------------------


def test_list_folder_tells_what_lstat_tells(tree: FolderTree, tmp_path: Path) -> None:
    build_nasty_tree(tmp_path, deep=False)
    kinds = {
        stat.S_IFREG: EntryKind.FILE,
        stat.S_IFDIR: EntryKind.FOLDER,
        stat.S_IFLNK: EntryKind.SYMBOLIC_LINK,
        stat.S_IFIFO: EntryKind.FIFO,
        stat.S_IFCHR: EntryKind.CHARACTER_DEVICE,
        stat.S_IFBLK: EntryKind.BLOCK_DEVICE,
    }
    base = os.fsencode(tmp_path)
    for folder, folders, files in os.walk(base):
        found = listed(tree, Path(os.fsdecode(folder)))
        assert found.keys() == {*folders, *files}
        for name, entry in found.items():
            path = folder + b"/" + name
            state = os.lstat(path)
            assert entry.kind == kinds[stat.S_IFMT(state.st_mode)]
            assert (entry.mtime_ns, entry.device, entry.inode) == (state.st_mtime_ns, state.st_dev, state.st_ino)
            assert entry.attributes[:3] == (stat.S_IMODE(state.st_mode), state.st_uid, state.st_gid)
            assert entry.attributes.rdev == (state.st_rdev if stat.S_IFMT(state.st_mode) in (0o20000, 0o60000) else 0)
            assert entry.size == (state.st_size if entry.kind == EntryKind.FILE else 0)
            assert entry.target == (os.readlink(path) if entry.kind == EntryKind.SYMBOLIC_LINK else b"")
            xattrs = {
                os.fsencode(item): os.getxattr(path, item, follow_symlinks=False)
                for item in os.listxattr(path, follow_symlinks=False)
            }
            assert dict(entry.attributes.xattrs) == xattrs
            assert list(entry.attributes.xattrs) == sorted(entry.attributes.xattrs)
            linked = not stat.S_ISDIR(state.st_mode) and state.st_nlink > 1
            assert bool(entry.flags & EntryFlag.LINKED) == linked


def test_list_folder_equal_attributes_are_one_value(tree: FolderTree, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    found = listed(tree, tmp_path)
    assert found[b"a"].attributes is found[b"b"].attributes
    assert isinstance(found[b"a"].attributes, Attributes)


def test_list_folder_sparse_file_is_marked(tree: FolderTree, tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(10 << 20)
    (tmp_path / "full").write_bytes(b"x" * 100_000)
    found = listed(tree, tmp_path)
    assert found[b"holes"].flags & EntryFlag.SPARSE
    assert not found[b"full"].flags & EntryFlag.SPARSE


def test_list_folder_sockets_are_left_out(tree: FolderTree, tmp_path: Path) -> None:
    os.mknod(tmp_path / "socket", 0o600 | stat.S_IFSOCK)
    entries, problems = look(tree, tmp_path)
    assert entries == []
    assert problems == [FoundProblem(b"socket", "a socket, which no backup keeps", ProblemKind.NOT_KEPT)]


def test_list_folder_unwanted_names_are_not_even_looked_at(tree: FolderTree, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    entries, _ = look(tree, tmp_path, lambda name: 7 if name == b"a" else None)
    assert [(entry.name, entry.priority) for entry in entries] == [(b"a", 7)]


def test_list_folder_deeper_than_the_kernel_takes_at_once(tree: FolderTree, tmp_path: Path) -> None:
    build_deep_path(tmp_path)
    path = os.fsencode(tmp_path)
    while True:
        entries, problems = look(tree, path)
        assert problems == []
        folders = [entry.name for entry in entries if entry.kind == EntryKind.FOLDER]
        if not folders:
            break
        path += b"/" + folders[0]
    found = {entry.name: entry for entry in entries}
    assert len(path) > 4096
    assert dict(found[b"bottom"].attributes.xattrs) == {b"user.depth": b"deep"}
    assert found[b"link"].target == b"bottom"
    bottom = found[b"bottom"]
    file = WaitingFile(1, b"/x", bottom.size, bottom.mtime_ns, bottom.ctime_ns, bottom.device, bottom.inode)
    assert tree.hash_file(place(path + b"/bottom"), file, NEVER).digest == hashlib.sha256(b"at the bottom").digest()
    assert tree.describe_folder(place(path)).kind == EntryKind.FOLDER


def test_list_folder_that_cannot_be_listed_says_why(tree: FolderTree, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for work in (
        tree.inspect,
        tree.describe_folder,
        lambda place: listed(tree, Path(os.fsdecode(place.path))),
    ):
        with pytest.raises(SourceTrouble, match="it is not there any more"):
            work(place(tmp_path / "missing"))
        with pytest.raises(SourceTrouble, match="it is no folder"):
            work(place(tmp_path / "file"))


def test_list_folder_followed_links_are_what_they_point_to(tree: FolderTree, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "to file").symlink_to("file")
    (tmp_path / "to folder").symlink_to("/")
    (tmp_path / "to nowhere").symlink_to("nowhere")
    (tmp_path / "to itself").symlink_to("to itself")
    (tmp_path / "too long").symlink_to("n" * 300)
    followed = listed(tree, tmp_path, follow=True)
    assert followed[b"to file"]._replace(name=b"file") == followed[b"file"]
    assert followed[b"to folder"].kind == EntryKind.FOLDER
    for name in (b"to nowhere", b"to itself", b"too long"):
        assert followed[name].kind == EntryKind.SYMBOLIC_LINK
    assert {entry.kind for name, entry in listed(tree, tmp_path).items() if name != b"file"} == {EntryKind.SYMBOLIC_LINK}


def test_describe_folder_is_the_folder_itself(tree: FolderTree, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(0o751)
    os.setxattr(folder, "user.a", b"b")
    entry = tree.describe_folder(place(folder))
    assert (entry.name, entry.kind, entry.inode) == (b"", EntryKind.FOLDER, folder.stat().st_ino)
    assert entry.attributes.mode == folder.stat().st_mode & 0o7777
    assert entry.attributes.xattrs == ((b"user.a", b"b"),)


def test_inspect_tells_device_and_emptiness(tree: FolderTree, tmp_path: Path) -> None:
    assert tree.inspect(place(tmp_path)) == (tmp_path.stat().st_dev, True)
    (tmp_path / ".hidden").touch()
    assert tree.inspect(place(tmp_path)) == (tmp_path.stat().st_dev, False)


def test_is_marked_skipped_by_the_marker_alone(tree: FolderTree, tmp_path: Path) -> None:
    assert not is_skipped(tree, tmp_path)
    (tmp_path / ".distbackup.skip").touch()
    assert is_skipped(tree, tmp_path)
    assert tree.remarks() == []


@pytest.mark.parametrize("kind", ["link to a file", "fifo", "folder"])
def test_is_marked_skipped_only_by_a_regular_file(tree: FolderTree, tmp_path: Path, kind: str) -> None:
    marker = tmp_path / ".distbackup.skip"
    if kind == "link to a file":
        (tmp_path / "file").touch()
        marker.symlink_to("file")
    elif kind == "fifo":
        os.mkfifo(marker)
    else:
        marker.mkdir()
    assert not is_skipped(tree, tmp_path)
    told = f"{marker} is no regular file, so the folder is backed up all the same"
    assert tree.remarks() == [told]
    assert not is_skipped(tree, tmp_path)
    assert tree.remarks() == [], "it is told once"


@pytest.mark.needs("root")
def test_is_marked_skipped_only_by_the_folders_owner_or_root(tree: FolderTree, tmp_path: Path) -> None:
    marker = tmp_path / ".distbackup.skip"
    marker.touch()
    os.chown(tmp_path, 1234, 1234)
    assert is_skipped(tree, tmp_path), "root's counts everywhere"
    os.chown(marker, 4321, 4321)
    assert not is_skipped(tree, tmp_path)
    assert tree.remarks() == [f"{marker} belongs to somebody else than the folder, so the folder is backed up all the same"]
    os.chown(marker, 1234, 1234)
    assert is_skipped(tree, tmp_path)


# --- side files ------------------------------------------------------------------------------------------------------


def test_list_folder_side_file_says_priority_and_limit(tree: FolderTree, tmp_path: Path) -> None:
    (tmp_path / "movie").write_bytes(b"x")
    (tmp_path / "movie.meta-inf").write_text(json.dumps({"hash": "ab" * 32, "priority": 3, "maxcopies": "inf"}))
    entry = listed(tree, tmp_path)[b"movie"]
    assert (entry.priority, entry.maxcopies) == (3, -1)


@pytest.mark.needs("root")
def test_list_folder_side_file_of_somebody_else_says_nothing_and_is_told(tree: FolderTree, tmp_path: Path) -> None:
    for name, owner, side_owner in (("mine", 1234, 1234), ("roots", 1234, 0), ("foreign", 1234, 4321), ("his", 0, 4321)):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / f"{name}.meta-inf").write_text(json.dumps({"priority": 7, "maxcopies": 1}))
        os.chown(tmp_path / name, owner, owner)
        os.chown(tmp_path / f"{name}.meta-inf", side_owner, side_owner)
    entries, problems = look(tree, tmp_path)
    found = {entry.name: entry for entry in entries}
    assert {name.decode(): (found[name].priority, found[name].maxcopies) for name in found if b"." not in name} == {
        "mine": (7, 1),
        "roots": (7, 1),
        "foreign": (1, 0),
        "his": (1, 0),
    }
    assert {(problem.name, problem.kind) for problem in problems} == {
        (b"foreign.meta-inf", ProblemKind.SIDE_FILE),
        (b"his.meta-inf", ProblemKind.SIDE_FILE),
    }


def test_list_folder_side_file_that_is_a_link_says_nothing(tree: FolderTree, tmp_path: Path) -> None:
    (tmp_path / "movie").write_bytes(b"x")
    (tmp_path / "elsewhere").write_text(json.dumps({"priority": 7}))
    (tmp_path / "movie.meta-inf").symlink_to("elsewhere")
    entries, problems = look(tree, tmp_path)
    assert {entry.name: entry.priority for entry in entries}[b"movie"] == 1
    told = [(problem.name, problem.reason) for problem in problems]
    assert told == [(b"movie.meta-inf", "this side file says nothing usable: it is no regular file")]


def test_list_folder_side_file_with_priority_zero_leaves_its_file_out(tree: FolderTree, tmp_path: Path) -> None:
    (tmp_path / "movie").write_bytes(b"x")
    (tmp_path / "movie.meta-inf").write_text(json.dumps({"priority": 0}))
    assert b"movie" not in listed(tree, tmp_path)


@pytest.mark.parametrize("harm", ["no JSON", "a folder", "a fifo", "nowhere"])
def test_list_folder_side_file_that_is_none_is_told_and_its_file_kept(tree: FolderTree, tmp_path: Path, harm: str) -> None:
    (tmp_path / "movie").write_bytes(b"x")
    side_file = tmp_path / "movie.meta-inf"
    if harm == "no JSON":
        side_file.write_bytes(b"{")
    elif harm == "a folder":
        side_file.mkdir()
    elif harm == "a fifo":
        os.mkfifo(side_file)
    else:
        side_file.symlink_to("nowhere")
    entries, problems = look(tree, tmp_path)
    assert b"movie" in [entry.name for entry in entries]
    assert [(problem.name, problem.kind) for problem in problems] == [(b"movie.meta-inf", ProblemKind.SIDE_FILE)]


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17])
def test_hash_file_any_size_gives_its_hash_and_tells_progress(tree: FolderTree, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    content = os.urandom(size)
    path.write_bytes(content)
    told: list[int] = []
    pulse = Never()
    pulse.beat = told.append  # type: ignore[method-assign]
    assert tree.hash_file(place(path), waiting(path), pulse).digest == hashlib.sha256(content).digest()
    assert sum(told) == size


@pytest.mark.parametrize("size", [100, 3 * CHUNK])
@pytest.mark.parametrize("change", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_hash_file_that_is_not_as_it_was_seen_is_refused(tree: FolderTree, tmp_path: Path, size: int, change: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    told = waiting(path)
    with pytest.raises(SourceChanged):
        tree.hash_file(place(path), told._replace(**{change: getattr(told, change) + 1}), NEVER)


@pytest.mark.parametrize("size", [100, 3 * CHUNK])
@pytest.mark.parametrize("grown", [True, False])
def test_hash_file_that_changes_while_it_is_read_is_refused(
    tree: FolderTree, tmp_path: Path, size: int, grown: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(size))

    class Changing(FolderTree):
        def open_file(self, *words) -> int:
            descriptor = super().open_file(*words)
            os.truncate(path, size + 1 if grown else size - 1)
            return descriptor

    with pytest.raises(SourceChanged):
        Changing().hash_file(place(path), waiting(path), NEVER)


def test_hash_file_told_to_stop_stops(tree: FolderTree, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(5 * CHUNK))
    with pytest.raises(Interrupted):
        tree.hash_file(place(path), waiting(path), StopWhen(lambda: True))


def test_hash_file_without_lasting_inode_is_read(tree: FolderTree, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    assert tree.hash_file(place(path), waiting(path)._replace(inode=0), NEVER).digest == hashlib.sha256(b"x").digest()


def test_open_file_leaves_the_access_time_alone(tree: FolderTree, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    os.utime(path, (1, 2))
    tree.hash_file(place(path), waiting(path), NEVER)
    assert path.stat().st_atime == 1


@pytest.mark.parametrize("kind", ["fifo", "folder", "link to nowhere", "missing"])
def test_open_file_whose_place_something_else_took_is_trouble_and_leaves_nothing_open(
    tree: FolderTree, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "file"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to nowhere":
        path.symlink_to("nowhere")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SourceTrouble):
        tree.open_file(place(path), 0, 0, 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_confirm_unchanged_sees_a_write_behind_the_reading(tree: FolderTree, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    state = path.stat()
    descriptor = tree.open_file(place(path), 1, state.st_mtime_ns, state.st_ino)
    tree.confirm_unchanged(descriptor, 1, state.st_mtime_ns)
    os.utime(path, ns=(0, state.st_mtime_ns + 1))
    with pytest.raises(SourceChanged):
        tree.confirm_unchanged(descriptor, 1, state.st_mtime_ns)
    tree.close_file(descriptor)


@pytest.mark.needs("root")
def test_capabilities_and_acls_are_kept_as_the_kernel_gives_them(tree: FolderTree, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr(path, "security.capability", capability)
    assert listed(tree, tmp_path)[b"file"].attributes.xattrs == ((b"security.capability", capability),)


# --- files that never rest -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17])
def test_take_file_at_rest_says_so(tree: FolderTree, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    content = os.urandom(size)
    path.write_bytes(content)
    known = waiting(path)._replace(size=7, mtime_ns=5)
    taken = tree.take_file(place(path), known, NEVER)
    assert taken == (hashlib.sha256(content).digest(), size, path.stat().st_mtime_ns, True)


@pytest.mark.parametrize("size", [5, CHUNK, 3 * CHUNK])
def test_take_file_that_grows_while_it_is_read_ends_where_it_ended(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    content = os.urandom(size)
    path.write_bytes(content)

    class Growing(FolderTree):
        def open_as_it_is(self, *words: Any) -> Any:
            opened = super().open_as_it_is(*words)
            with path.open("ab") as file:
                file.write(b"more" * CHUNK)
            return opened

    taken = Growing().take_file(place(path), waiting(path), NEVER)
    assert (taken.digest, taken.size, taken.at_rest) == (hashlib.sha256(content).digest(), size, False)


def test_open_as_it_is_takes_nothing_but_regular_files_with_content(tree: FolderTree, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    descriptors = set(os.listdir("/proc/self/fd"))
    for name in ("empty", "fifo", "folder", "missing"):
        with pytest.raises(SourceTrouble):
            tree.open_as_it_is(place(tmp_path / name))
    assert set(os.listdir("/proc/self/fd")) == descriptors
