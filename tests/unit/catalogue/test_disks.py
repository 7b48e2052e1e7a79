"""Enrolled disks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distbackupd.catalogue.catalogue import Catalogue, open_catalogue
from distbackupd.model.disks import BackupDisk, footprint
from distbackupd.model.errors import UsageError
from distbackupd.planning.listing import LeftFolder
from tests.unit.catalogue.making import add_disk, add_files, held, holders, object_id

UUID = "5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11"


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as opened:
        yield opened


def test_add_every_field_comes_back(catalogue: Catalogue, tmp_path: Path) -> None:
    disk = BackupDisk(99, UUID, "photos ä-01", 2**50, b"sub\xff", "ABCD-1234", "exfat", b"/mnt/\xff\n", 5, 6, 7, clean=False)
    added = catalogue.disks.add(disk)
    assert replace(added, id=99) == disk
    with open_catalogue(tmp_path, read_only=True) as again:
        assert again.disks.all() == [added]


def test_update_every_field_comes_back(catalogue: Catalogue) -> None:
    disk = add_disk(catalogue, "one")
    changed = replace(disk, name="two", capacity=1, last_session_at=3, clean=False, catalogue_generation=12)
    catalogue.disks.update(changed)
    assert catalogue.disks.all() == [changed]


@pytest.mark.parametrize("word", [UUID, UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}", "one"])
def test_find_by_name_or_uuid_in_any_spelling(catalogue: Catalogue, word: str) -> None:
    add_disk(catalogue, "other")
    disk = catalogue.disks.add(BackupDisk(0, UUID, "one", 1, b"", None, None, b"", 0))
    assert catalogue.disks.find(word) == disk


@pytest.mark.parametrize("word", ["", "One", "one ", "%", "5a3c8c0e"])
def test_find_what_is_no_disk_finds_none(catalogue: Catalogue, word: str) -> None:
    catalogue.disks.add(BackupDisk(0, UUID, "one", 1, b"", None, None, b"", 0))
    assert catalogue.disks.find(word) is None


def test_add_and_update_taken_names_are_refused(catalogue: Catalogue) -> None:
    one, two = add_disk(catalogue, "one"), add_disk(catalogue, "two")
    with pytest.raises(UsageError, match="there is a disk 'one' already"):
        add_disk(catalogue, "one")
    with pytest.raises(UsageError, match="there is a disk"):
        catalogue.disks.add(replace(one, name="three"))
    with pytest.raises(UsageError, match="there is a disk 'one' already"):
        catalogue.disks.update(replace(two, name="one"))
    assert catalogue.disks.all() == [one, two]


def test_delete_disk_that_holds_something_is_refused(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/", b"a")
    disk = add_disk(catalogue, "one")
    catalogue.objects.record_copies(disk.id, [object_id(catalogue, b"/a")])
    with pytest.raises(UsageError, match=r"holds 1 object.*dsb disk drop one"):
        catalogue.disks.delete(disk)
    assert catalogue.disks.drop(disk.id) == 1
    catalogue.disks.delete(disk)
    assert catalogue.disks.all() == []


def test_drop_takes_the_disk_out_of_every_holder_set(catalogue: Catalogue) -> None:
    names = [b"a", b"b", b"c"]
    add_files(catalogue, b"/", *names)
    one, two = add_disk(catalogue, "one"), add_disk(catalogue, "two")
    identifiers = [object_id(catalogue, b"/" + name) for name in names]
    catalogue.objects.record_copies(one.id, identifiers[:2])
    catalogue.objects.record_copies(two.id, identifiers[1:])
    catalogue.objects.record_removals(one.id, identifiers[:1])
    catalogue.disks.record_verified(one.id, [1, 2], 5)
    catalogue.disks.note_left(one.id, {1: LeftFolder(2, 3)})
    catalogue.disks.record_token(one.id, "token", "next")
    assert catalogue.disks.drop(one.id) == 1
    assert catalogue.disks.all()[0] == one, "without its tokens it is a stranger"
    assert catalogue.disks.left(one.id) == {}
    assert holders(catalogue, b"/a", b"/b", b"/c") == [set(), {two.id}, {two.id}]
    assert catalogue.objects.pending_removals(one.id) == []
    assert catalogue.disks.verified_at(one.id) == {}
    assert held(catalogue, one) == {}


def test_delete_id_is_never_given_to_another_disk(catalogue: Catalogue) -> None:
    one = add_disk(catalogue, "one")
    catalogue.disks.delete(one)
    assert add_disk(catalogue, "two").id != one.id


def test_used_counts_whole_blocks_and_overhead(catalogue: Catalogue) -> None:
    sizes = [1, 4095, 4096, 4097, 10**13]
    disk = add_disk(catalogue, "one")
    identifiers = [catalogue.files.claimed_object(bytes([size % 251]) * 32, size) for size in sizes]
    catalogue.objects.record_copies(disk.id, identifiers)
    assert catalogue.disks.used(disk.id) == (5, sum(map(footprint, sizes)))
    assert catalogue.disks.held(disk.id) == (5, sum(sizes))


def test_record_verified_keeps_the_newest_time(catalogue: Catalogue) -> None:
    disk = add_disk(catalogue, "one")
    catalogue.disks.record_verified(disk.id, [0, 4095], 5)
    catalogue.disks.record_verified(disk.id, [4095], 9)
    catalogue.disks.record_verified(disk.id, [], 10)
    assert catalogue.disks.verified_at(disk.id) == {0: 5, 4095: 9}


def test_record_token_is_not_undone_by_an_update_of_somebody_who_knows_the_older_one(catalogue: Catalogue) -> None:
    disk, other = add_disk(catalogue, "one"), add_disk(catalogue, "two")
    catalogue.disks.record_token(disk.id, "token", "next")
    catalogue.disks.update(replace(disk, name="new name"))
    assert catalogue.disks.all() == [replace(disk, name="new name", token="token", next_token="next"), other]


def test_note_left_replaces_what_was_noted_and_forget_looks_forgets_it(catalogue: Catalogue) -> None:
    disk, other = add_disk(catalogue, "one"), add_disk(catalogue, "two")
    for known in (disk, other):
        catalogue.disks.note_left(known.id, {0: LeftFolder(1, 2), 4095: LeftFolder(-(2**62), 4)})
    catalogue.disks.note_left(disk.id, {0: LeftFolder(5, 6)})
    catalogue.disks.record_verified(disk.id, [1], 5)
    assert catalogue.disks.left(disk.id) == {0: LeftFolder(5, 6), 4095: LeftFolder(-(2**62), 4)}
    catalogue.disks.forget_looks(disk.id)
    assert (catalogue.disks.left(disk.id), catalogue.disks.verified_at(disk.id)) == ({}, {})
    assert len(catalogue.disks.left(other.id)) == 2
