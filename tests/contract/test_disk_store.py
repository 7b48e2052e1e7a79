"""What every ``DiskStore`` promises: the fake, and the real one on a plain folder and on each kind of disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine.ports import DiskStore, StagedCopy
from distbackupd.model.disks import DiskIdentity
from distbackupd.model.errors import Interrupted, SourceChanged
from distbackupd.store.folder_store import FolderStore
from tests.bed.loop_disks import loop_disk, mounted_at
from tests.fakes.disk_store import FakeDiskStore
from tests.fakes.stopping import Never, StopWhen

NEVER = Never()
OUR_HEADER = b"SQLite format 3\0".ljust(60, b"\0") + b"\0\0\0\1" + b"\0\0\0\0" + b"dsbd"
SMALL = b"small content"
LARGE = bytes(range(256)) * 10_000
CONTENTS = [pytest.param(SMALL, id="small"), pytest.param(LARGE, id="large"), pytest.param(bytes(3 << 20), id="zeros")]
"""Of at most one chunk; of several; of nothing but zeros."""


class FakeBed:
    """The fake, and what a test does behind its back."""

    def __init__(self) -> None:
        self.store: Any = FakeDiskStore()

    def again(self) -> DiskStore:
        """The store as the next session finds it."""
        return self.store

    def damage(self, digest: bytes, change: Callable[[bytes], bytes]) -> None:
        self.store.objects_[digest] = change(self.store.objects_[digest])

    def leave_unfinished(self, digest: bytes, content: bytes) -> None:
        self.store.unfinished[digest] = content

    def catalogue(self) -> bytes:
        return self.store.catalogue


class FolderBed:
    """The real store."""

    def __init__(self, root: Path, filesystem_type: str, in_user_space: bool | None) -> None:
        self.root = root
        self.opened: list[FolderStore] = []
        self._type = filesystem_type
        self._in_user_space = in_user_space
        self.store = self.again()

    def again(self) -> FolderStore:
        store = FolderStore(os.fsencode(self.root), self._type, in_user_space=self._in_user_space)
        self.opened.append(store)
        store.prepare()
        return store

    def _path(self, digest: bytes) -> Path:
        return self.root / "distbackup-objects" / digest.hex()[:3] / digest.hex()

    def damage(self, digest: bytes, change: Callable[[bytes], bytes]) -> None:
        self._path(digest).write_bytes(change(self._path(digest).read_bytes()))

    def leave_unfinished(self, digest: bytes, content: bytes) -> None:
        (self.root / "distbackup-tmp" / digest.hex()).write_bytes(content)

    def catalogue(self) -> bytes:
        return (self.root / "distbackup.sqlite").read_bytes()


def _on_a_disk(kind: str) -> Any:
    return pytest.param(kind, marks=pytest.mark.needs("root", "loop", kind))


KINDS = ["fake", "folder", "fuse", *map(_on_a_disk, ("ext4", "xfs", "btrfs"))]


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    kind: str = request.param
    folder = tmp_path_factory.mktemp(kind)
    if kind in ("fake", "folder", "fuse"):
        yield kind, folder
        return
    with loop_disk(folder, kind, megabytes=64) as disk, mounted_at(disk.device, folder / "mnt") as mounted:
        yield kind, mounted


@pytest.fixture
def bed(place: tuple[str, Path]) -> Iterator[FakeBed | FolderBed]:
    """A disk of its own for each test: a new folder on the same file system."""
    kind, folder = place
    if kind == "fake":
        yield FakeBed()
        return
    with tempfile.TemporaryDirectory(dir=folder) as root:
        # Through FUSE each file is flushed by itself; a plain folder that claims to be one shows that this works.
        by_type = {"folder": "ext4", "fuse": "ntfs"}.get(kind, kind)
        bed = FolderBed(Path(root), by_type, in_user_space=True if kind == "fuse" else None)
        yield bed
        for store in bed.opened:
            store.close()


def digest_of(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@contextmanager
def source(content: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield file.fileno()


def stage(store: DiskStore, content: bytes) -> StagedCopy:
    with source(content) as descriptor:
        return store.stage(descriptor, digest_of(content), len(content), NEVER)


def add(store: DiskStore, content: bytes) -> bytes:
    store.commit([stage(store, content)])
    return digest_of(content)


def read(store: DiskStore, digest: bytes) -> bytes:
    with open(store.open_object(digest), "rb") as file:
        return file.read()


def all_wanted(*contents: bytes) -> Callable[[object], dict[bytes, int]]:
    return lambda _digests: {digest_of(content): len(content) for content in contents}


def test_identity_is_none_until_written_and_can_be_changed(bed: FakeBed) -> None:
    assert bed.store.identity() is None
    uuid = "5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11"
    for name in ("photos-01", "photos ä"):
        bed.store.write_identity(DiskIdentity(uuid, name))
        assert bed.again().identity() == DiskIdentity(uuid, name)


def test_token_is_empty_until_left_and_then_the_last_one(bed: FakeBed) -> None:
    assert bed.store.token() == ""
    for token in ("first", "second"):
        bed.store.leave_token(token)
        assert bed.again().token() == token


def test_differences_in_names_what_is_not_there_and_folder_times_tell_that_names_came_or_went(bed: FakeBed) -> None:
    kept, gone = add(bed.store, b"kept"), add(bed.store, b"gone")
    folder = int(gone.hex()[:3], 16)
    assert bed.store.differences_in(folder, [gone]) == ([], [])
    assert bed.store.differences_in(folder, [gone, gone[:2] + b"?" * 30]) == ([gone[:2] + b"?" * 30], [])
    before = bed.store.folder_times()
    assert before.keys() == {int(digest.hex()[:3], 16) for digest in (kept, gone)}
    assert bed.again().folder_times() == before
    bed.store.remove([gone])
    assert bed.again().differences_in(folder, [gone]) == ([gone], [])
    after = bed.again().folder_times()
    assert after.get(folder) != before[folder]
    assert after[int(kept.hex()[:3], 16)] == before[int(kept.hex()[:3], 16)]
    empty = next(number for number in range(4096) if number not in before)
    assert bed.store.differences_in(empty, []) == ([], [])


def test_space_tells_room_and_block_size(bed: FakeBed) -> None:
    space = bed.store.space()
    assert 0 < space.free <= space.total
    assert space.block_size >= 512


@pytest.mark.parametrize("content", CONTENTS)
def test_commit_staged_copy_can_be_read_again(bed: FakeBed, content: bytes) -> None:
    digest = add(bed.store, content)
    store = bed.again()
    assert store.size_of(digest) == len(content)
    assert read(store, digest) == content
    assert list(store.objects()) == [(digest, len(content))]
    assert store.check(digest, len(content), NEVER).problem == ""
    assert store.leftovers(all_wanted(content), NEVER) == []


def test_commit_nothing_does_nothing(bed: FakeBed) -> None:
    bed.store.commit([])
    assert list(bed.store.objects()) == []


def test_commit_same_object_again_replaces_it(bed: FakeBed) -> None:
    digest = add(bed.store, SMALL)
    bed.damage(digest, lambda content: content[:-1])
    add(bed.store, SMALL)
    assert read(bed.store, digest) == SMALL


def test_objects_come_by_digest(bed: FakeBed) -> None:
    contents = [b"%d" % number for number in range(50)]
    bed.store.commit([stage(bed.store, content) for content in contents])
    assert list(bed.store.objects()) == sorted((digest_of(content), len(content)) for content in contents)
    digests = [digest_of(content) for content in contents]
    assert sorted(bed.store.reading_order([*digests, b"?" * 32])) == sorted([*digests, b"?" * 32])


@pytest.mark.parametrize("content", CONTENTS)
def test_stage_without_commit_is_no_object_but_found_by_the_next_session(bed: FakeBed, content: bytes) -> None:
    copy = stage(bed.store, content)
    assert copy == StagedCopy(digest_of(content), len(content))
    assert bed.store.size_of(copy.digest) is None
    assert list(bed.store.objects()) == []
    with pytest.raises(FileNotFoundError):
        bed.store.open_object(copy.digest)
    store = bed.again()
    assert store.leftovers(all_wanted(content), NEVER) == [copy]
    store.commit([copy])
    assert read(store, copy.digest) == content


def test_leftovers_nobody_wants_are_removed(bed: FakeBed) -> None:
    stage(bed.store, SMALL)
    assert bed.store.leftovers(lambda _digests: {}, NEVER) == []
    assert bed.store.leftovers(all_wanted(SMALL), NEVER) == []


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("broken", [lambda content: content[:-1], lambda content: content + b"x", lambda content: b""])
def test_leftovers_incomplete_ones_are_removed(bed: FakeBed, content: bytes, broken: Callable[[bytes], bytes]) -> None:
    bed.leave_unfinished(digest_of(content), broken(content))
    assert bed.store.leftovers(all_wanted(content), NEVER) == []
    bed.leave_unfinished(digest_of(content), b"x" * len(content))
    assert bed.store.leftovers(all_wanted(content), NEVER) == []
    bed.leave_unfinished(digest_of(content), content)
    assert len(bed.store.leftovers(all_wanted(content), NEVER)) == 1


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize(
    "changed",
    [lambda content: content[:-1], lambda content: content + b"x", lambda content: b"x" + content[1:], lambda content: b""],
    ids=["shrank", "grew", "changed", "emptied"],
)
def test_stage_source_that_changed_leaves_nothing_behind(
    bed: FakeBed, content: bytes, changed: Callable[[bytes], bytes]
) -> None:
    with source(changed(content)) as descriptor, pytest.raises(SourceChanged):
        bed.store.stage(descriptor, digest_of(content), len(content), NEVER)
    assert list(bed.store.objects()) == []
    everything = all_wanted(content, changed(content))
    assert bed.again().leftovers(everything, NEVER) == []


def test_stage_told_to_stop_leaves_nothing_behind(bed: FakeBed) -> None:
    read_bytes: list[int] = []
    pulse = StopWhen(lambda: len(read_bytes) >= 2)
    pulse.beat = read_bytes.append  # type: ignore[method-assign]
    with source(LARGE) as descriptor, pytest.raises(Interrupted):
        bed.store.stage(descriptor, digest_of(LARGE), len(LARGE), pulse)
    assert bed.store.leftovers(all_wanted(LARGE), NEVER) == []


def test_stage_several_at_once_gives_each_its_content(bed: FakeBed) -> None:
    contents = [bytes([number]) * (number * 100_000 + 1) for number in range(15)]
    with ThreadPoolExecutor(4) as pool:
        bed.store.commit(list(pool.map(lambda content: stage(bed.store, content), contents)))
    for content in contents:
        assert bed.store.check(digest_of(content), len(content), NEVER).problem == ""


def test_discard_removes_staged_copies_and_never_fails(bed: FakeBed) -> None:
    copy = stage(bed.store, SMALL)
    bed.store.discard([copy, StagedCopy(digest_of(LARGE), len(LARGE))])
    bed.store.discard([copy])
    assert bed.store.leftovers(all_wanted(SMALL, LARGE), NEVER) == []


def test_differences_in_names_files_that_nobody_expects(bed: FakeBed) -> None:
    digest = add(bed.store, SMALL)
    folder = int(digest.hex()[:3], 16)
    assert bed.again().differences_in(folder, []) == ([], [digest])
    missing = digest[:2] + b"?" * 30
    assert bed.store.differences_in(folder, [missing]) == ([missing], [digest])


def test_settle_takes_what_is_there_and_what_is_not_and_what_is_damaged(bed: FakeBed) -> None:
    bed.store.write_identity(DiskIdentity("5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11", "one"))
    good, bad, missing = add(bed.store, SMALL), add(bed.store, LARGE), digest_of(b"nobody has this")
    bed.damage(bad, lambda content: content[1:] + b"?")
    store = bed.again()
    store.settle([good, bad, missing])
    assert store.check(good, len(SMALL), NEVER).problem == ""
    assert [bool(store.check(digest, len(LARGE), NEVER).problem) for digest in (bad, missing)] == [True, True]


def test_holds_unfinished_tells_of_a_session_that_did_not_come_to_its_end(bed: FakeBed) -> None:
    assert not bed.store.holds_unfinished()
    copy = stage(bed.store, SMALL)
    assert bed.again().holds_unfinished()
    bed.store.commit([copy])
    assert not bed.again().holds_unfinished()


def test_remove_takes_objects_and_is_content_with_missing_ones(bed: FakeBed) -> None:
    digest = add(bed.store, SMALL)
    bed.store.remove([digest, digest_of(LARGE)])
    bed.store.remove([digest])
    assert bed.store.size_of(digest) is None
    assert list(bed.store.objects()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content[:-1], "it has 12 bytes instead of 13"),
        (lambda content: content + b"x", "it has 14 bytes instead of 13"),
        (lambda content: bytes([content[0] ^ 1]) + content[1:], "its content does not match its name"),
    ],
    ids=["truncated", "too long", "flipped bit"],
)
def test_check_bad_copy_says_what_is_wrong(bed: FakeBed, change: Callable[[bytes], bytes], problem: str) -> None:
    digest = add(bed.store, SMALL)
    bed.damage(digest, change)
    assert bed.store.check(digest, len(SMALL), NEVER) == (digest, len(SMALL), problem)


def test_check_missing_copy_says_so(bed: FakeBed) -> None:
    bed.store.write_identity(DiskIdentity("12345678-1234-4234-8234-123456789012", "one"))
    assert bed.store.check(digest_of(SMALL), 13, NEVER).problem == "it is missing"


def test_set_aside_bad_object_is_no_object_any_more(bed: FakeBed) -> None:
    digest = add(bed.store, SMALL)
    bed.store.set_aside(digest)
    bed.store.set_aside(digest)
    assert bed.store.size_of(digest) is None
    assert list(bed.again().objects()) == []


def test_save_catalogue_replaces_the_copy(bed: FakeBed) -> None:
    for text in (b"one", b"two"):

        def write_copy(path: bytes, text: bytes = text) -> None:
            Path(os.fsdecode(path)).write_bytes(OUR_HEADER + text)

        bed.store.save_catalogue(write_copy)
        bed.store.flush()
        assert bed.catalogue().endswith(text)


def test_save_catalogue_that_fails_leaves_the_old_copy(bed: FakeBed) -> None:
    def write_copy(path: bytes) -> None:
        Path(os.fsdecode(path)).write_bytes(OUR_HEADER + b"good")

    def fail(path: bytes) -> None:
        Path(os.fsdecode(path)).write_bytes(b"half")
        raise ValueError("no")

    bed.store.save_catalogue(write_copy)
    with pytest.raises(ValueError, match="no"):
        bed.store.save_catalogue(fail)
    assert bed.catalogue().endswith(b"good")
    assert bed.again().leftovers(all_wanted(), NEVER) == []


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("most", [100 << 20, 5])
def test_stage_as_it_is_takes_whatever_there_is_up_to_the_size(bed: Any, content: bytes, most: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        file.seek(0)
        staged = bed.store.stage_as_it_is(file.fileno(), most, NEVER)
    assert staged == StagedCopy(digest_of(content[:most]), len(content[:most]))
    assert bed.store.commit([staged]) == frozenset()
    assert bed.store.check(*staged[:2], NEVER).problem == ""
    assert bed.again().leftovers(lambda digests: dict.fromkeys(digests, 1), NEVER) == []
