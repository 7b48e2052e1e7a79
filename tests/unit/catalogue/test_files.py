"""Versions of files, the queue of what waits to be hashed, and which objects live."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd.catalogue.catalogue import Catalogue, open_catalogue
from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind, HashedFile, KnownEntry, Namesake
from tests.unit.catalogue.making import (
    PLAIN,
    add_disk,
    add_files,
    changes,
    digest,
    entry,
    hash_all,
    holders,
    living,
    object_id,
    orphaned_at,
    wait_for_hash,
)

STRANGE = [b"\xff\xfe", b"line\nbreak", b"n" * 255, b"-rf", b" ", b"a\\b", b"%", b"\x01", "ä".encode(), b"\xc3"]


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as opened:
        yield opened


def known(catalogue: Catalogue, folder: bytes, name: bytes) -> KnownEntry:
    return next(item for item in catalogue.files.folder(folder) if item.name == name)


def remove(catalogue: Catalogue, folder: bytes, *names: bytes, now: int) -> None:
    rows = [known(catalogue, folder, name).row for name in names]
    catalogue.files.record_folder(folder, changes(gone=rows), now)


@pytest.mark.parametrize(
    "item",
    [
        entry(b"folder", EntryKind.FOLDER, mtime_ns=-(2**62), inode=2**63 - 1, device=2**40),
        entry(b"link", EntryKind.SYMBOLIC_LINK, target=b"/x\xff\n" * 800),
        entry(b"empty", size=0),
        entry(b"fifo", EntryKind.FIFO, attributes=Attributes(0o600, 2**32 - 2, 2**31)),
        entry(b"node", EntryKind.BLOCK_DEVICE, attributes=Attributes(0o660, 0, 6, rdev=2**33)),
        entry(
            b"with xattrs",
            EntryKind.FOLDER,
            flags=EntryFlag.LINKED,
            attributes=Attributes(0o7777, 1, 2, 0, ((b"system.posix_acl_access", bytes(range(256))), (b"user.a", b""))),
        ),
    ],
    ids=lambda item: item.name.decode(),
)
def test_record_folder_entry_without_content_comes_back_whole(catalogue: Catalogue, item: Entry) -> None:
    catalogue.files.record_folder(b"/some", changes(added=[(item, None)]), 1)
    catalogue.files.commit()
    (found,) = catalogue.files.restore_entries(b"/")
    assert found.path == b"/some/" + item.name
    assert found[1:9] == (*item[1:4], *item[5:9], item.target)
    assert (found.digest, found.holders) == (None, frozenset())
    back = known(catalogue, b"/some", item.name)
    assert back[1:8] == item[:7]
    assert back.attributes == catalogue.files.attributes_id(item)


def test_record_folder_strange_names_and_deep_folders_come_back(catalogue: Catalogue) -> None:
    deep = b"/" + b"/".join([b"d" * 200] * 30)
    for folder in (b"/", deep, *(b"/" + name for name in STRANGE)):
        add_files(catalogue, folder, *STRANGE)
    paths = {folder.rstrip(b"/") + b"/" + name for folder in (b"/", deep, *(b"/" + n for n in STRANGE)) for name in STRANGE}
    assert len(deep) > 4096
    assert living(catalogue) == {path: digest(path) for path in paths}
    assert {item.path for item in catalogue.files.listing(b"/")} == paths
    assert {item.path for item in catalogue.files.listing(deep)} == {deep + b"/" + name for name in STRANGE}
    assert [item.name for item in catalogue.files.folder(b"/")] == sorted(STRANGE)


def test_listing_prefix_means_whole_names(catalogue: Catalogue) -> None:
    for folder in (b"/a", b"/a/b", b"/a-b", b"/a0", b"/ab", b"/"):
        add_files(catalogue, folder, b"f")
    assert [item.path for item in catalogue.files.listing(b"/a")] == [b"/a/f", b"/a/b/f"]
    assert [item.path for item in catalogue.files.listing(b"/a/f")] == [b"/a/f"]
    assert [item.path for item in catalogue.files.listing(b"/f")] == [b"/f"]
    assert len(list(catalogue.files.listing(b"/"))) == 6


def test_folder_own_entry_of_a_source_is_in_itself(catalogue: Catalogue) -> None:
    catalogue.files.record_folder(b"/s", changes(added=[(entry(b"", EntryKind.FOLDER), None)]), 1)
    assert not catalogue.files.has_entries_below(b"/s")
    add_files(catalogue, b"/s/below", b"f")
    assert catalogue.files.has_entries_below(b"/s")
    assert catalogue.files.has_entries_below(b"/")
    assert not catalogue.files.has_entries_below(b"/s/b")
    assert [item.path for item in catalogue.files.restore_entries(b"/s")] == [b"/s", b"/s/below/f"]


# --- versions --------------------------------------------------------------------------------------------------------


def test_versions_are_current_from_when_they_were_seen_until_they_are_gone(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/f", b"stays", b"goes", b"changes", now=10)
    before = known(catalogue, b"/f", b"changes")
    catalogue.files.start_scan()
    catalogue.files.record_folder(b"/f", changes(waiting=[(entry(b"changes", size=7), before.row)]), 20)
    remove(catalogue, b"/f", b"goes", now=20)
    (waiting,) = catalogue.files.waiting()
    catalogue.files.record_hashes([HashedFile(waiting.ticket, digest("second"), True)], 20)
    catalogue.files.finish_scan(20, whole=True)

    def at(moment: int | None) -> dict[bytes, bytes | None]:
        return {item.path[3:]: item.digest for item in catalogue.files.restore_entries(b"/", moment)}

    first = {name: digest(b"/f/" + name) for name in (b"stays", b"goes", b"changes")}
    assert at(9) == {}
    assert at(10) == at(19) == first
    assert at(20) == at(None) == {b"stays": digest(b"/f/stays"), b"changes": digest("second")}
    assert catalogue.files.count() == (2, 5 + 7)


def test_record_folder_waiting_file_keeps_its_old_version_until_it_is_hashed(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/", b"a")
    row = known(catalogue, b"/", b"a").row
    catalogue.files.start_scan()
    catalogue.files.record_folder(b"/", changes(waiting=[(entry(b"a", size=9), row), (entry(b"b"), None)]), 5)
    catalogue.files.commit()
    assert living(catalogue) == {b"/a": digest(b"/a")}


def test_record_folder_changed_entry_with_known_content_makes_a_version(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/", b"a", now=1)
    before = known(catalogue, b"/", b"a")
    after = entry(b"a", attributes=Attributes(0o600, 5, 5), inode=before.inode)
    catalogue.files.record_folder(b"/", changes(changed=[(before.row, after, before.object_id)]), 2)
    catalogue.files.commit()
    (old,) = catalogue.files.restore_entries(b"/", 1)
    (new,) = catalogue.files.restore_entries(b"/")
    assert (old.attributes.mode, new.attributes.mode) == (0o644, 0o600)
    assert old.digest == new.digest == digest(b"/a")


def test_record_folder_touched_entry_stays_the_same_version(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/", b"a", now=1)
    before = known(catalogue, b"/", b"a")
    after = entry(b"a", device=9, inode=99, flags=EntryFlag.LINKED, priority=3, maxcopies=2)
    catalogue.files.record_folder(b"/", changes(touched=[(before.row, after)]), 2)
    catalogue.files.finish_scan(2, whole=False)
    back = known(catalogue, b"/", b"a")
    assert (back.row, back.device, back.inode, back.flags, back.priority, back.maxcopies) == (before.row, 9, 99, 1, 3, 2)
    (facts,) = catalogue.objects.facts()
    assert (facts.priority, facts.maxcopies) == (3, 2)


# --- what waits to be hashed -----------------------------------------------------------------------------------------


def test_waiting_comes_by_device_and_inode_and_hard_links_once(catalogue: Catalogue) -> None:
    linked = {"flags": EntryFlag.LINKED, "inode": 7}
    wait_for_hash(catalogue, b"/z", entry(b"one", **linked), entry(b"two", **linked), entry(b"other", inode=3))
    wait_for_hash(catalogue, b"/a", entry(b"three", **linked), entry(b"elsewhere", device=2, **linked))
    assert catalogue.files.waiting_total() == (3, 15)
    assert hash_all(catalogue) == [b"/z/other", b"/z/one", b"/a/elsewhere"]
    assert living(catalogue) == {
        b"/a/elsewhere": digest(b"/a/elsewhere"),
        b"/a/three": digest(b"/z/one"),
        b"/z/one": digest(b"/z/one"),
        b"/z/other": digest(b"/z/other"),
        b"/z/two": digest(b"/z/one"),
    }


def test_waiting_other_name_that_changed_meanwhile_is_read_by_itself(catalogue: Catalogue) -> None:
    """Two names of one inode, but one was seen before a write and the other behind it."""
    linked = {"flags": EntryFlag.LINKED, "inode": 7}
    wait_for_hash(catalogue, b"/", entry(b"a", **linked), entry(b"b", mtime_ns=2000, **linked))
    assert sorted(hash_all(catalogue)) == [b"/a", b"/b"]


def test_waiting_names_without_lasting_inodes_are_all_read(catalogue: Catalogue) -> None:
    wait_for_hash(catalogue, b"/", *(entry(name, inode=0, flags=EntryFlag.LINKED) for name in (b"a", b"b")))
    assert catalogue.files.waiting_total() == (2, 10)
    assert sorted(hash_all(catalogue)) == [b"/a", b"/b"]


def test_waiting_name_whose_link_was_made_during_the_walk_is_not_lost(catalogue: Catalogue) -> None:
    wait_for_hash(catalogue, b"/", entry(b"a", inode=7), entry(b"b", inode=7, flags=EntryFlag.LINKED))
    hash_all(catalogue)
    assert living(catalogue).keys() == {b"/a", b"/b"}


def test_waiting_survives_recording_while_it_is_read(catalogue: Catalogue) -> None:
    names = [b"%05d" % number for number in range(5000)]
    wait_for_hash(catalogue, b"/", *map(entry, names))
    seen = []
    for number, item in enumerate(catalogue.files.waiting()):
        seen.append(item.path)
        if number % 500 == 0:
            catalogue.files.record_hashes([HashedFile(item.ticket, digest(item.path), True)], 2)
    assert seen == [b"/" + name for name in names]


def test_start_scan_empties_the_queue(catalogue: Catalogue) -> None:
    wait_for_hash(catalogue, b"/", entry(b"a"))
    catalogue.files.start_scan()
    assert list(catalogue.files.waiting()) == []
    assert catalogue.files.waiting_total() == (0, 0)


def test_record_hashes_same_content_twice_makes_one_object(catalogue: Catalogue) -> None:
    wait_for_hash(catalogue, b"/", entry(b"a"), entry(b"b"))
    tickets = [item.ticket for item in catalogue.files.waiting()]
    catalogue.files.record_hashes([HashedFile(ticket, digest("same"), True) for ticket in tickets], 2)
    assert len(list(catalogue.objects.facts())) == 1


def test_namesakes_by_device_inode_size_time_and_owner(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/", b"a", inode=77)
    same = entry(b"moved", inode=77, ctime_ns=2_001)
    there = Namesake(object_id(catalogue, b"/a"), b"/a", gone=False)
    assert catalogue.files.namesakes(same, 5) == [there]
    other_owner = {"attributes": PLAIN._replace(uid=1)}
    for other in ({"device": 2}, {"inode": 78}, {"inode": 0}, {"size": 6}, {"mtime_ns": 1001}, other_owner):
        assert catalogue.files.namesakes(same._replace(**other), 5) == []


def test_namesakes_gone_ones_only_of_this_moment_or_with_the_very_time_of_change(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/", b"a", inode=77)
    remove(catalogue, b"/", b"a", now=5)
    same = entry(b"moved", inode=77, ctime_ns=2_001)
    (gone,) = catalogue.files.namesakes(same, 5)
    assert gone == Namesake(object_id(catalogue, b"/a"), b"/a", gone=True)
    assert catalogue.files.namesakes(same, 6) == []
    assert catalogue.files.namesakes(same._replace(ctime_ns=2_000), 6) == [gone]


def test_namesakes_are_never_folders_or_empty_files(catalogue: Catalogue) -> None:
    items = [entry(b"d", EntryKind.FOLDER, inode=5), entry(b"e", size=0, inode=6)]
    catalogue.files.record_folder(b"/", changes(added=[(item, None) for item in items]), 1)
    assert [catalogue.files.namesakes(item, 1) for item in items] == [[], []]


def test_record_hashes_size_that_we_read_wins_over_what_others_told(catalogue: Catalogue) -> None:
    disk = add_disk(catalogue, "d")
    wrong = catalogue.files.claimed_object(digest(b"/a"), 99)
    assert wrong is not None
    catalogue.objects.record_copies(disk.id, [wrong])
    assert catalogue.files.claimed_object(digest(b"/a"), 5) is None
    add_files(catalogue, b"/", b"a")
    assert catalogue.objects.digests([wrong]) == {wrong: (digest(b"/a"), 5)}
    assert holders(catalogue, b"/a") == [set()], "what lies on the disk is no copy of it"


# --- orphans ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def backed_up(catalogue: Catalogue) -> Catalogue:
    """Two files on a disk."""
    add_files(catalogue, b"/f", b"a", b"b")
    disk = add_disk(catalogue, "d")
    catalogue.objects.record_copies(disk.id, [object_id(catalogue, b"/f/a"), object_id(catalogue, b"/f/b")])
    return catalogue


def test_finish_scan_whole_makes_orphans_of_what_no_file_has(backed_up: Catalogue) -> None:
    remove(backed_up, b"/f", b"a", now=10)
    backed_up.files.finish_scan(11, whole=True)
    assert (orphaned_at(backed_up, b"/f/a"), orphaned_at(backed_up, b"/f/b")) == (11, 0)
    backed_up.files.finish_scan(20, whole=True)
    assert orphaned_at(backed_up, b"/f/a") == 11


def test_finish_scan_partial_makes_no_orphans_but_the_next_whole_one_does(backed_up: Catalogue) -> None:
    remove(backed_up, b"/f", b"a", now=10)
    backed_up.files.finish_scan(11, whole=False)
    assert orphaned_at(backed_up, b"/f/a") == 0
    backed_up.files.finish_scan(12, whole=True)
    assert orphaned_at(backed_up, b"/f/a") == 12


def test_finish_scan_rename_across_folders_keeps_the_object_living(backed_up: Catalogue) -> None:
    before = known(backed_up, b"/f", b"a")
    moved = entry(b"moved", inode=before.inode)
    remove(backed_up, b"/f", b"a", now=10)
    backed_up.files.finish_scan(10, whole=False)
    (namesake,) = backed_up.files.namesakes(moved, 10)
    backed_up.files.record_folder(b"/g", changes(added=[(moved, namesake.object_id)]), 11)
    backed_up.files.finish_scan(11, whole=True)
    assert orphaned_at(backed_up, b"/f/a") == 0
    assert living(backed_up)[b"/g/moved"] == digest(b"/f/a")


def test_record_folder_orphan_that_gets_a_name_again_lives_at_once(backed_up: Catalogue) -> None:
    remove(backed_up, b"/f", b"a", now=10)
    backed_up.files.finish_scan(10, whole=True)
    back = entry(b"back")
    backed_up.files.record_folder(b"/g", changes(added=[(back, object_id(backed_up, b"/f/a"))]), 11)
    assert orphaned_at(backed_up, b"/f/a") == 0
    backed_up.files.finish_scan(12, whole=True)
    assert orphaned_at(backed_up, b"/f/a") == 0


def test_record_hashes_orphan_whose_content_comes_again_lives_at_once(backed_up: Catalogue) -> None:
    remove(backed_up, b"/f", b"a", now=10)
    backed_up.files.finish_scan(10, whole=True)
    backed_up.files.start_scan()
    wait_for_hash(backed_up, b"/g", entry(b"again"))
    (waiting,) = backed_up.files.waiting()
    backed_up.files.record_hashes([HashedFile(waiting.ticket, digest(b"/f/a"), True)], 11)
    assert orphaned_at(backed_up, b"/f/a") == 0


def test_finish_scan_object_takes_the_highest_priority_and_limit_of_its_files(catalogue: Catalogue) -> None:
    identifier = catalogue.files.claimed_object(digest("x"), 5)

    def facts(*files: Entry) -> tuple[int, int]:
        rows = [item.row for item in catalogue.files.folder(b"/")]
        catalogue.files.record_folder(b"/", changes(added=[(item, identifier) for item in files], gone=rows), 1)
        catalogue.files.finish_scan(1, whole=True)
        (found,) = catalogue.objects.facts()
        return found.priority, found.maxcopies

    assert facts(entry(b"a", priority=1, maxcopies=2), entry(b"b", priority=3, maxcopies=1)) == (3, 2)
    assert facts(entry(b"a", priority=2, maxcopies=2), entry(b"b", maxcopies=0)) == (2, 0)
    assert facts(entry(b"a", maxcopies=1)) == (1, 1)


# --- forgetting folders ----------------------------------------------------------------------------------------------


def test_forget_below_keeps_the_subtrees_of_other_sources(catalogue: Catalogue) -> None:
    for folder in (b"/", b"/v", b"/v/a", b"/v/a/deep", b"/v/ab", b"/v/a-b", b"/w"):
        add_files(catalogue, folder, b"f", now=1)
    assert catalogue.files.forget_below(b"/v", [b"/v/a"], 9) == 3
    catalogue.files.commit()
    assert living(catalogue).keys() == {b"/f", b"/v/a/f", b"/v/a/deep/f", b"/w/f"}
    assert len(list(catalogue.files.restore_entries(b"/", 8))) == 7


def test_forget_below_root_forgets_all_but_what_is_kept(catalogue: Catalogue) -> None:
    for folder in (b"/", b"/v", b"/w"):
        add_files(catalogue, folder, b"f")
    assert catalogue.files.forget_below(b"/", [b"/v", b"/w"], 9) == 1
    assert catalogue.files.forget_below(b"/", [], 9) == 2
    catalogue.files.finish_scan(9, whole=True)
    assert living(catalogue) == {}
    assert list(catalogue.objects.facts()) == []


def test_path_of_object_prefers_a_living_name(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/", b"a")
    identifier = object_id(catalogue, b"/a")
    assert catalogue.files.path_of_object(identifier) == b"/a"
    catalogue.files.record_folder(b"/", changes(added=[(entry(b"b"), identifier)]), 2)
    remove(catalogue, b"/", b"a", now=3)
    assert catalogue.files.path_of_object(identifier) == b"/b"
    remove(catalogue, b"/", b"b", now=4)
    assert catalogue.files.path_of_object(identifier) in (b"/a", b"/b")
    assert catalogue.files.path_of_object(12345) == b""


def test_sources_of_names_living_files_by_path(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/b", b"x", inode=50)
    identifier = object_id(catalogue, b"/b/x")
    catalogue.files.record_folder(b"/a", changes(added=[(entry(b"y"), identifier)]), 2)
    assert [item.path for item in catalogue.files.sources_of([identifier])] == [b"/a/y", b"/b/x"]
    row = known(catalogue, b"/b", b"x").row
    assert catalogue.files.sources_of([identifier])[1] == (identifier, b"/b/x", 5, 1000, 50, row, 2000, True, False, 0)
    catalogue.unconfirmed.doubt([row])
    assert not catalogue.files.sources_of([identifier])[1].confirmed
    remove(catalogue, b"/b", b"x", now=3)
    assert [item.path for item in catalogue.files.sources_of([identifier])] == [b"/a/y"]
    assert catalogue.files.sources_of([]) == []


# --- what is taken back ----------------------------------------------------------------------------------------------


def test_rollback_forgets_what_was_recorded(catalogue: Catalogue) -> None:
    generation = catalogue.generation()
    catalogue.files.record_folder(b"/x", changes(added=[(entry(b"d", EntryKind.FOLDER), None)]), 1)
    wait_for_hash(catalogue, b"/x", entry(b"f"))
    catalogue.files.rollback()
    catalogue.files.commit()
    assert living(catalogue) == {}
    assert catalogue.files.waiting_total() == (0, 0)
    assert catalogue.generation() == generation


def test_rollback_attributes_are_interned_anew_afterwards(catalogue: Catalogue) -> None:
    """Ids are used again: what was known of them before must not give a file the owner of another one."""
    taken_back = entry(b"a", EntryKind.FOLDER, attributes=Attributes(0o700, 1, 1))
    catalogue.files.record_folder(b"/", changes(added=[(taken_back, None)]), 1)
    catalogue.files.rollback()
    other = entry(b"b", EntryKind.FOLDER, attributes=Attributes(0o755, 2, 2))
    catalogue.files.record_folder(b"/", changes(added=[(other, None), (taken_back, None)]), 1)
    catalogue.files.commit()
    found = {item.path: item.attributes for item in catalogue.files.restore_entries(b"/")}
    assert found == {b"/a": taken_back.attributes, b"/b": other.attributes}


def test_record_hashes_that_fails_leaves_no_stale_attributes(catalogue: Catalogue) -> None:
    """A transaction that an error ends (no room left, a locked file) takes back interned attributes too."""
    first = entry(b"a", EntryKind.FOLDER, attributes=Attributes(0o700, 1, 1))
    catalogue.files.record_folder(b"/", changes(added=[(first, None)]), 1)
    with pytest.raises(sqlite3.Error):
        catalogue.files.record_hashes([HashedFile(1, object(), True)], 1)  # type: ignore[arg-type]
    second = entry(b"b", EntryKind.FOLDER, attributes=Attributes(0o755, 2, 2))
    catalogue.files.record_folder(b"/", changes(added=[(second, None), (first, None)]), 1)
    catalogue.files.commit()
    found = {item.path: item.attributes for item in catalogue.files.restore_entries(b"/")}
    assert found == {b"/a": first.attributes, b"/b": second.attributes}


def test_close_without_commit_keeps_only_what_was_committed(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        add_files(catalogue, b"/", b"a")
        catalogue.files.record_folder(b"/x", changes(added=[(entry(b"d", EntryKind.FOLDER), None)]), 1)
    with open_catalogue(tmp_path) as catalogue:
        assert living(catalogue).keys() == {b"/a"}
