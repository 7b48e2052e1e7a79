"""What every ``Catalogue`` promises. A database that is to take SQLite's place is named in ``OPENERS``, and runs it too.

Only the ports are used here. What is SQLite's own (files, locks, migrations) is tested in ``tests/unit/catalogue``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path

import pytest

from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.engine.ports import Catalogue, FolderChanges, SessionSummary
from distbackupd.engine.ports.upheavals import Upheaval
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import UsageError
from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind, HashedFile
from distbackupd.model.plans import ObjectFacts
from distbackupd.model.rot import Reading
from distbackupd.model.sources import FolderSettings, Source

Opener = Callable[[Path], AbstractContextManager[Catalogue]]
OPENERS: dict[str, Opener] = {"sqlite": open_catalogue}
"""Each opens the catalogue in a folder, made if it is missing; what was committed is there when it is opened again."""

PLAIN = Attributes(0o644, 1, 2, 0, ((b"user.a", b"b"),))


@pytest.fixture(params=OPENERS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], AbstractContextManager[Catalogue]]:
    opener: Opener = OPENERS[request.param]
    return lambda: opener(tmp_path)


@pytest.fixture
def catalogue(opened: Callable[[], AbstractContextManager[Catalogue]]) -> Iterator[Catalogue]:
    with opened() as found:
        yield found


def entry(name: bytes, kind: EntryKind = EntryKind.FILE, inode: int = 0, copies: int = 0, maxcopies: int = 0) -> Entry:
    return Entry(
        name=name,
        kind=kind,
        size=len(name) if kind is EntryKind.FILE else 0,
        ctime_ns=2,
        mtime_ns=1_000,
        device=1,
        inode=inode or sum(name),
        flags=EntryFlag.NONE,
        attributes=PLAIN,
        target=b"",
        priority=1,
        maxcopies=maxcopies,
        copies=copies,
    )


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def put(catalogue: Catalogue, *entries: Entry, folder: bytes = b"/", now: int = 10) -> None:
    """A whole scan found these files, new, in the folder; the content of each is its name."""
    files = catalogue.files
    files.start_scan()
    files.record_folder(folder, FolderChanges([], [], [], [], [(item, None) for item in entries]), now)
    by_path = {waiting.ticket: waiting.path.rsplit(b"/", 1)[-1] for waiting in files.waiting()}
    files.record_hashes([HashedFile(ticket, sha256(name), True) for ticket, name in by_path.items()], now)
    files.finish_scan(now, whole=True)
    files.commit()


def remove(catalogue: Catalogue, name: bytes, now: int) -> None:
    """A whole scan did not find it in ``/`` any more."""
    row = next(known.row for known in catalogue.files.folder(b"/") if known.name == name)
    catalogue.files.record_folder(b"/", FolderChanges([], [], [], [row], []), now)
    catalogue.files.finish_scan(now, whole=True)
    catalogue.files.commit()


def shelve(catalogue: Catalogue, name: str = "one") -> BackupDisk:
    return catalogue.disks.add(
        BackupDisk(
            0, f"00000000-0000-4000-8000-{len(catalogue.disks.all()):012d}", name, 10**12, b"", None, None, b"/mnt", 0
        )
    )


def facts(catalogue: Catalogue) -> dict[bytes, ObjectFacts]:
    """What the planner is told, by content."""
    found = list(catalogue.objects.facts())
    digests = catalogue.objects.digests([item.id for item in found])
    return {digests[item.id][0]: item for item in found}


def identifier(catalogue: Catalogue, content: bytes) -> int:
    return catalogue.objects.identifiers([sha256(content)])[sha256(content)]


# --- sources


def test_sources_are_kept_with_their_settings(opened: Callable[[], AbstractContextManager[Catalogue]]) -> None:
    wishes = FolderSettings(lock=True, priority=3, maxcopies=2, copies=1, rules=("*.tmp",))
    with opened() as catalogue:
        catalogue.sources.map(Source(b"/b", b"/real/\xff"))
        catalogue.sources.map(Source(b"/a", b"/other"))
        catalogue.sources.map(Source(b"/a", b"/real/a"))
        catalogue.sources.set_settings(b"/a/deep", wishes)
        catalogue.sources.set_settings(b"/b", FolderSettings(hide=True))
        catalogue.sources.set_settings(b"/b", FolderSettings())
    with opened() as catalogue:
        assert catalogue.sources.all() == [Source(b"/a", b"/real/a"), Source(b"/b", b"/real/\xff")]
        assert catalogue.sources.settings() == {b"/a/deep": wishes}
        assert catalogue.sources.unmap(b"/b")
        assert not catalogue.sources.unmap(b"/b")


# --- files


def test_folder_tells_every_field_of_what_was_recorded(catalogue: Catalogue) -> None:
    seen = entry(b"a", copies=3, maxcopies=5)._replace(priority=7, mtime_ns=-1, flags=EntryFlag.SPARSE)
    put(catalogue, seen)
    link_seen = entry(b"link", EntryKind.SYMBOLIC_LINK)._replace(target=b"\xff")
    catalogue.files.record_folder(b"/", FolderChanges([(link_seen, None)], [], [], [], []), 20)
    catalogue.files.commit()
    known, link = catalogue.files.folder(b"/")
    assert [getattr(known, name) for name in seen._fields if name not in ("attributes", "digest")] == [
        getattr(seen, name) for name in seen._fields if name not in ("attributes", "digest")
    ]
    assert known.attributes == catalogue.files.attributes_id(seen)
    assert known.object_id == identifier(catalogue, b"a")
    assert (link.target, link.object_id) == (b"\xff", None)


def test_what_was_not_committed_is_forgotten_by_a_rollback(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"kept"))
    catalogue.files.record_folder(b"/", FolderChanges([(entry(b"fifo", EntryKind.FIFO), None)], [], [], [], []), 20)
    catalogue.files.rollback()
    assert [known.name for known in catalogue.files.folder(b"/")] == [b"kept"]


def test_names_of_one_inode_are_read_once_and_are_one_object(catalogue: Catalogue) -> None:
    files = catalogue.files
    files.start_scan()
    twins = [(entry(name, inode=9)._replace(size=4, flags=EntryFlag.LINKED), None) for name in (b"a", b"b")]
    files.record_folder(b"/", FolderChanges([], [], [], [], list(twins)), 10)
    assert files.waiting_total() == (1, 4)
    (waiting,) = files.waiting()
    files.record_hashes([HashedFile(waiting.ticket, sha256(b"same"), True)], 10)
    files.finish_scan(10, whole=True)
    files.commit()
    assert {known.object_id for known in files.folder(b"/")} == {identifier(catalogue, b"same")}
    assert sorted(source.path for source in files.sources_of([identifier(catalogue, b"same")])) == [b"/a", b"/b"]
    third = entry(b"c", inode=9)._replace(size=4)
    assert {item.object_id for item in files.namesakes(third, 11)} == {identifier(catalogue, b"same")}
    assert files.namesakes(third._replace(inode=8), 11) == []


def test_what_is_forgotten_is_gone_but_for_what_is_kept(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"x"), folder=b"/a")
    put(catalogue, entry(b"y"), folder=b"/a/kept")
    assert catalogue.files.has_entries_below(b"/a")
    assert catalogue.files.forget_below(b"/a", [b"/a/kept"], 20) == 1
    catalogue.files.commit()
    assert catalogue.files.folder(b"/a") == []
    assert [known.name for known in catalogue.files.folder(b"/a/kept")] == [b"y"]
    assert catalogue.files.path_of_object(identifier(catalogue, b"x")) == b"/a/x"
    assert catalogue.files.count() == (1, 1)


def test_upheaval_counts_what_vanished_since_a_moment(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"a"), entry(b"bb"), now=10)
    assert catalogue.upheavals.living() == (2, 3)
    assert catalogue.upheavals.since(11) == Upheaval()
    remove(catalogue, b"bb", 20)
    assert catalogue.upheavals.since(11) == Upheaval(vanished=1, vanished_size=2)
    assert catalogue.upheavals.since(21) == Upheaval()
    assert catalogue.upheavals.rewritten_since(11, 5) == []


# --- what the planner is told


@pytest.mark.parametrize("wish", [{"copies": 3}, {"maxcopies": 2}, {"copies": 1, "maxcopies": 4}], ids=str)
def test_facts_tell_the_planner_every_wish(catalogue: Catalogue, wish: dict[str, int]) -> None:
    put(catalogue, entry(b"usual"), entry(b"a", **wish)._replace(priority=6))
    told = facts(catalogue)
    assert told[sha256(b"usual")][3:] == (1, 0, 0, 0)
    assert told[sha256(b"a")]._asdict() == {
        "id": identifier(catalogue, b"a"),
        "size": 1,
        "holders": told[sha256(b"usual")].holders,
        "priority": 6,
        "maxcopies": wish.get("maxcopies", 0),
        "orphaned_at": 0,
        "copies": wish.get("copies", 0),
    }


def test_facts_of_one_content_with_two_wishes_are_the_greater_ones(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"a", copies=1, maxcopies=2), folder=b"/one")
    put(catalogue, entry(b"a", inode=5, copies=3, maxcopies=4)._replace(priority=9), folder=b"/other")
    (told,) = facts(catalogue).values()
    assert (told.priority, told.maxcopies, told.copies) == (9, 4, 3)


def test_facts_tell_of_orphans_only_while_somebody_holds_them(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"a"), entry(b"b"))
    disk = shelve(catalogue)
    catalogue.objects.record_copies(disk.id, [identifier(catalogue, b"a")])
    remove(catalogue, b"a", 20)
    remove(catalogue, b"b", 30)
    (told,) = facts(catalogue).values()
    assert (told.id, told.orphaned_at) == (identifier(catalogue, b"a"), 20)
    assert catalogue.objects.holder_sets()[told.holders] == {disk.id}


# --- objects and their holders


def test_copies_and_removals_change_who_holds_what(opened: Callable[[], AbstractContextManager[Catalogue]]) -> None:
    with opened() as catalogue:
        put(catalogue, entry(b"a"), entry(b"b"))
        one, two = shelve(catalogue), shelve(catalogue, "two")
        a, b = identifier(catalogue, b"a"), identifier(catalogue, b"b")
        before = catalogue.generation()
        catalogue.objects.record_copies(one.id, [a, b])
        catalogue.objects.record_copies(two.id, [a])
        catalogue.objects.record_removals(one.id, [b])
        assert catalogue.generation() > before
    with opened() as catalogue:
        assert catalogue.objects.holders([a, b]) == {a: {one.id, two.id}, b: frozenset()}
        assert catalogue.objects.pending_removals(one.id) == [sha256(b"b")]
        catalogue.objects.removals_done(one.id)
        assert catalogue.objects.pending_removals(one.id) == []
        catalogue.objects.strike(one.id, a)
        assert catalogue.objects.holders([a]) == {a: {two.id}}
        assert catalogue.objects.pending_removals(one.id) == []
        assert catalogue.objects.held_in_folder(two.id, int(sha256(b"a").hex()[:3], 16)) == [(a, sha256(b"a"), 1)]
        assert catalogue.objects.known_sizes([sha256(b"a"), sha256(b"c")]) == {sha256(b"a"): 1}


def test_what_is_found_on_a_disk_takes_the_place_of_what_was_known(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"a"), entry(b"b"))
    disk = shelve(catalogue)
    catalogue.objects.record_copies(disk.id, [identifier(catalogue, b"a")])
    found = [(sha256(b"b"), 1), (sha256(b"strange"), 7)]
    assert catalogue.objects.replace_holdings(disk.id, iter(found), 50) == (2, 1)
    assert catalogue.disks.held(disk.id) == (2, 8)
    assert facts(catalogue)[sha256(b"strange")].orphaned_at == 50


def test_sums_by_holders_know_what_needs_no_more(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"a"), entry(b"bb", copies=1), entry(b"ccc", maxcopies=1))
    disk = shelve(catalogue)
    catalogue.objects.record_copies(disk.id, [identifier(catalogue, name) for name in (b"a", b"bb", b"ccc")])
    ((holders, *sums),) = catalogue.objects.by_holders()
    assert catalogue.objects.holder_sets()[holders] == {disk.id}
    assert sums == [3, 6, 5]


# --- disks


def other(value: object) -> object:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case bytes():
            return value + b"\xff"
        case _:
            return f"{value} other"


def test_disks_keep_every_field(catalogue: Catalogue) -> None:
    disk = replace(shelve(catalogue), filesystem_uuid="fs", filesystem_type="ext4", luks_uuid="luks", last_session_at=3)
    values = {item.name: other(getattr(disk, item.name)) for item in fields(disk) if item.name not in ("id", "uuid")}
    full = replace(disk, **values)  # type: ignore[arg-type]
    catalogue.disks.update(full)
    assert catalogue.disks.all() == [replace(full, token="", next_token="")], "what lies on it nobody updates by the way"
    catalogue.disks.record_token(full.id, full.token, full.next_token)
    assert catalogue.disks.all() == [full]
    assert catalogue.disks.find("one other") == catalogue.disks.find(disk.uuid.upper()) == full
    assert catalogue.disks.find("one") is None


def test_disks_are_told_apart_by_name_and_uuid(catalogue: Catalogue) -> None:
    disk = shelve(catalogue)
    with pytest.raises(UsageError, match="'one'"):
        shelve(catalogue)
    with pytest.raises(UsageError):
        catalogue.disks.add(BackupDisk(0, disk.uuid, "two", 1, b"", None, None, b"/", 0))
    assert catalogue.disks.all() == [disk]


def test_a_disk_that_holds_something_is_dropped_before_it_is_deleted(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"a"))
    disk = shelve(catalogue)
    catalogue.objects.record_copies(disk.id, [identifier(catalogue, b"a")])
    assert catalogue.disks.used(disk.id) == (1, disk.footprint(1))
    with pytest.raises(UsageError, match="holds 1 object"):
        catalogue.disks.delete(disk)
    assert catalogue.disks.drop(disk.id) == 1
    catalogue.disks.delete(disk)
    assert catalogue.disks.all() == []
    assert shelve(catalogue).id > disk.id  # a number is never given to another disk


def test_verified_folders_are_kept_by_disk(catalogue: Catalogue) -> None:
    one, two = shelve(catalogue), shelve(catalogue, "two")
    catalogue.disks.record_verified(one.id, [0, 4095], 10)
    catalogue.disks.record_verified(one.id, [0], 20)
    assert catalogue.disks.verified_at(one.id) == {0: 20, 4095: 10}
    assert catalogue.disks.verified_at(two.id) == {}


# --- sessions and facts


def test_sessions_are_told_newest_first(opened: Callable[[], AbstractContextManager[Catalogue]]) -> None:
    summary = SessionSummary("one", 10, 20, "finished", 1, 2, 3, 4, "done")
    with opened() as catalogue:
        disk = shelve(catalogue)
        catalogue.sessions.finish(catalogue.sessions.start(disk, 10), summary)
        catalogue.sessions.start(disk, 30)
        catalogue.sessions.remember("key", "old")
        catalogue.sessions.remember("key", "new")
    with opened() as catalogue:
        running, finished = catalogue.sessions.recent(5)
        assert (running.started, running.ended, running.outcome) == (30, None, "running")
        assert finished == summary
        assert catalogue.sessions.recent(1) == [running]
        assert catalogue.sessions.latest() == {"one": running}
        assert (catalogue.sessions.recall("key"), catalogue.sessions.recall("other")) == ("new", None)


# --- history


def test_history_tells_the_tree_of_any_moment(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"a"), now=10)
    put(catalogue, entry(b"bb"), now=20)
    remove(catalogue, b"a", 30)
    disk = shelve(catalogue)
    catalogue.objects.record_copies(disk.id, [identifier(catalogue, b"bb")])
    history = catalogue.history
    assert history.began_at() == 10
    assert [item.path for item in history.listing(b"/", 15)] == [b"/a"]
    assert sorted(item.path for item in history.entries(b"/", 25)) == [b"/a", b"/bb"]
    (now,) = history.entries(b"/")
    assert (now.path, now.digest, now.attributes, now.holders) == (b"/bb", sha256(b"bb"), PLAIN, {disk.id})
    assert history.names_of(now) == [b"/bb"]
    assert history.shares(b"/") == {frozenset({disk.id}): (1, 2)}
    assert [(version.seen, version.gone) for version in history.versions(b"/a")] == [(10, 30)]
    assert [(change.path, change.what) for change in history.changes(15, 40)] == [(b"/a", "gone"), (b"/bb", "new")]


# --- rot


READ = Reading(sha256(b"x"), entry(b""), settled=True, is_witnessed=True)


def test_rot_is_recorded_until_it_is_resolved(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"a"), entry(b"b"))
    rotten = identifier(catalogue, b"a")
    assert catalogue.rot.total() == 2
    assert [known.path for known in catalogue.rot.to_read(0, 10)] == [b"/a", b"/b"]
    found = catalogue.rot.record(b"/a", rotten, READ, 50)
    assert found is not None
    assert (found.path, found.digest, found.found, found.found_at) == (b"/a", sha256(b"a"), sha256(b"x"), 50)
    assert catalogue.rot.record(b"/a", rotten, READ, 60) is None  # no news
    assert catalogue.files.sources_of([rotten]) == []
    assert [rotten.file for rotten in catalogue.rot.all()] == [found.file]
    catalogue.rot.resolve([found.file])
    assert catalogue.rot.all() == []
    assert [source.path for source in catalogue.files.sources_of([rotten])] == [b"/a"]


def test_rot_that_is_accepted_is_a_new_version(catalogue: Catalogue) -> None:
    put(catalogue, entry(b"a"))
    found = catalogue.rot.record(b"/a", identifier(catalogue, b"a"), READ, 50)
    assert found is not None
    catalogue.rot.accept([found.file], sha256(b"x"), 60)
    assert [known.object_id for known in catalogue.files.folder(b"/")] == [identifier(catalogue, b"x")]


# --- copies


def test_generation_only_grows(catalogue: Catalogue) -> None:
    before = catalogue.generation()
    catalogue.raise_generation(before + 10)
    assert catalogue.generation() > before + 10
    catalogue.raise_generation(0)
    assert catalogue.generation() > before + 10


def test_write_copy_where_it_has_no_room_writes_nothing_at_all(
    opened: Callable[[], AbstractContextManager[Catalogue]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.statvfs_result((4096, 4096, 1000, 10, 10, 0, 0, 0, 0, 255))
    with opened() as catalogue:
        monkeypatch.setattr(os, "statvfs", lambda _place: full)
        assert catalogue.size() > 40960
        with pytest.raises(OSError, match="No space left"):
            catalogue.write_copy(bytes(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_a_copy_knows_what_the_catalogue_knew_and_no_more(
    opened: Callable[[], AbstractContextManager[Catalogue]], tmp_path: Path
) -> None:
    with opened() as catalogue:
        put(catalogue, entry(b"a"))
        catalogue.write_copy(bytes(tmp_path / "copy"))
        with open(tmp_path / "copy", "rb") as copy:
            assert catalogue.ahead(copy.fileno()) is None
            put(catalogue, entry(b"b"))
            assert catalogue.ahead(copy.fileno()) is None
