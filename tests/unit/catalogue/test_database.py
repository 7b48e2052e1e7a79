"""Opening the catalogue: what is there, what is broken, what others wrote; copies of it; its size."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from distbackupd.catalogue import schema
from distbackupd.catalogue.catalogue import Catalogue, open_catalogue
from distbackupd.catalogue.database import FILE_NAME, Database
from distbackupd.catalogue.lock import engine_lock
from distbackupd.engine.ports import FolderChanges
from distbackupd.model.errors import CatalogueTrouble, EngineBusy
from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind, HashedFile
from tests.bed.loop_disks import run
from tests.bed.old_catalogues import write_as_version
from tests.unit.catalogue.making import PLAIN, add_disk, add_files, changes, digest, entry, living, object_id

NAME = "distbackup.sqlite"


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A folder with a catalogue that knows something."""
    folder = tmp_path / "catalogue"
    with open_catalogue(folder) as catalogue:
        add_files(catalogue, b"/", b"a", b"b")
        disk = add_disk(catalogue, "one")
        catalogue.objects.record_copies(disk.id, [object_id(catalogue, b"/a")])
    return folder


def state(folder: Path) -> dict[str, str]:
    """Every file of the folder, with a hash."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


# --- what is there ---------------------------------------------------------------------------------------------------


def test_open_makes_a_private_folder_and_an_empty_catalogue(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    with open_catalogue(folder) as catalogue:
        assert catalogue.generation() == 0
        assert catalogue.files.count() == (0, 0)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_open_again_finds_what_was_recorded(filled: Path) -> None:
    with open_catalogue(filled) as catalogue:
        assert living(catalogue) == {b"/a": digest(b"/a"), b"/b": digest(b"/b")}
        assert [disk.name for disk in catalogue.disks.all()] == ["one"]


def test_open_two_at_once_see_each_others_commits(filled: Path) -> None:
    with open_catalogue(filled) as one, open_catalogue(filled) as two, open_catalogue(filled, read_only=True) as reader:
        add_files(one, b"/c", b"x")
        add_files(two, b"/d", b"y")
        assert len(living(one)) == len(living(two)) == len(living(reader)) == 4
        assert one.generation() == reader.generation()


def remember_at_once(folder: Path) -> None:
    with open_catalogue(folder) as catalogue:
        catalogue.files._database.execute("PRAGMA busy_timeout=10")
        catalogue.sessions.remember("a", "b")


def test_open_written_by_another_for_too_long_says_that_it_is_busy(filled: Path) -> None:
    with open_catalogue(filled) as one:
        one.files.record_folder(b"/", FolderChanges([], [], [], [], []), 1)
        with pytest.raises(EngineBusy, match="is being written by another program"):
            remember_at_once(filled)


def test_open_read_only_where_there_is_none_says_how_to_start_one(tmp_path: Path) -> None:
    with (
        pytest.raises(CatalogueTrouble, match=r"there is no catalogue at .*dsb source map"),
        open_catalogue(tmp_path / "none", read_only=True),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_open_read_only_cannot_write(filled: Path) -> None:
    before = state(filled)
    with pytest.raises(CatalogueTrouble, match="nothing was changed"), open_catalogue(filled, read_only=True) as catalogue:
        catalogue.sessions.remember("a", "b")
    assert state(filled)[NAME] == before[NAME]


# --- what is broken --------------------------------------------------------------------------------------------------


def _garbage(path: Path) -> None:
    path.write_bytes(b"This is not the catalogue that you are looking for.\n" * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def _cut_in_the_header(path: Path) -> None:
    os.truncate(path, 50)


def _overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE recipes (id INTEGER PRIMARY KEY)")
        other.execute("PRAGMA journal_mode=WAL")


def _distbackups_own(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE file_tree (id INTEGER PRIMARY KEY, path TEXT)")
        other.execute("CREATE TABLE nexus (id INTEGER PRIMARY KEY)")
        other.commit()


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version={schema.VERSION + 1}")
        other.execute("PRAGMA journal_mode=DELETE")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN = [
    (_garbage, "is damaged .*mount the backup disk used last and say 'dsb recover'"),
    (_empty, "is empty, so what it knew is lost"),
    (_truncated, "is damaged"),
    (_cut_in_the_header, "is damaged"),
    (_overwritten, "is damaged"),
    (_foreign, "is no catalogue of distbackupd; it was left as it is"),
    (_distbackups_own, "is the database of distbackup, not of distbackupd; it was left as it is"),
    (_newer, "was written by a newer distbackupd .*install the newer program"),
    (_folder, "is no file, so it cannot be a catalogue"),
]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(("spoil", "sentence"), BROKEN, ids=[spoil.__name__ for spoil, _ in BROKEN])
def test_open_what_is_broken_or_of_others_is_told_in_a_sentence_and_left_as_it_is(
    filled: Path, spoil, sentence: str, read_only: bool
) -> None:
    spoil(filled / NAME)
    before = state(filled) if spoil is not _folder else {}
    with pytest.raises(CatalogueTrouble, match=sentence) as caught, open_catalogue(filled, read_only=read_only) as catalogue:
        living(catalogue)
    assert "\n" not in str(caught.value)
    assert str(filled / NAME) in str(caught.value)
    after = state(filled) if spoil is not _folder else {}
    if spoil in (_truncated, _overwritten):
        # Damage that shows only when pages are read: SQLite, told to read only, cannot clear up what it made beside it.
        after = {name: value for name, value in after.items() if name == NAME}
    assert after == before


def test_write_into_a_damaged_catalogue_is_told_and_keeps_the_rest(filled: Path) -> None:
    """Damage that only shows when a certain page is read."""
    path = filled / NAME
    with closing(sqlite3.connect(path)) as other:
        page = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'folder'").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xaa" * 4096)
    with pytest.raises(CatalogueTrouble, match="is damaged"), open_catalogue(filled) as catalogue:
        add_files(catalogue, b"/new", b"x")


# --- read-only places ------------------------------------------------------------------------------------------------


@pytest.fixture
def read_only_place(filled: Path, tmp_path: Path) -> Iterator[Path]:
    """The same folder where nothing can be written, not even by root."""
    place = tmp_path / "read only"
    place.mkdir()
    run("mount", "--bind", filled, place)
    try:
        run("mount", "-o", "remount,bind,ro", place)
        yield place
    finally:
        run("umount", place)


@pytest.mark.needs("root", "mount")
def test_open_read_only_place_can_be_read(read_only_place: Path) -> None:
    before = state(read_only_place)
    with open_catalogue(read_only_place, read_only=True) as catalogue:
        assert living(catalogue).keys() == {b"/a", b"/b"}
    assert state(read_only_place) == before


@pytest.mark.needs("root", "mount")
def test_open_read_only_place_for_writing_is_refused_in_a_sentence(read_only_place: Path) -> None:
    before = state(read_only_place)
    with (
        pytest.raises(CatalogueTrouble, match=r"cannot be written.*nothing more was recorded"),
        open_catalogue(read_only_place),
    ):
        pass
    assert state(read_only_place) == before


@pytest.mark.needs("root", "mount")
def test_open_read_only_place_without_a_catalogue_is_refused_in_a_sentence(read_only_place: Path, filled: Path) -> None:
    (filled / NAME).unlink()
    with pytest.raises(CatalogueTrouble), open_catalogue(read_only_place):
        pass
    with pytest.raises(CatalogueTrouble), open_catalogue(read_only_place / "below"):
        pass


# --- copies ----------------------------------------------------------------------------------------------------------


def test_write_copy_is_one_whole_file_that_needs_no_other(filled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "disk" / NAME
    copy.parent.mkdir()
    with open_catalogue(filled) as catalogue:
        add_files(catalogue, b"/late", b"x")
        catalogue.write_copy(os.fsencode(copy))
        expected = living(catalogue)
    assert [path.name for path in copy.parent.iterdir()] == [NAME]
    with closing(sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert plain.execute("SELECT count(*) FROM file WHERE gone = 0").fetchone() == (3,)
        assert plain.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
        assert plain.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    with open_catalogue(copy.parent) as taken_back:
        assert living(taken_back) == expected


@pytest.mark.needs("root", "mount")
def test_write_copy_opens_on_a_read_only_place_as_it_is(filled: Path, tmp_path: Path) -> None:
    disk, place = tmp_path / "disk", tmp_path / "mounted"
    disk.mkdir()
    place.mkdir()
    with open_catalogue(filled) as catalogue:
        catalogue.write_copy(os.fsencode(disk / NAME))
    run("mount", "--bind", disk, place)
    try:
        run("mount", "-o", "remount,bind,ro", place)
        with closing(sqlite3.connect(f"file:{place / NAME}?mode=ro", uri=True)) as plain:
            assert plain.execute("SELECT count(*) FROM file").fetchone() == (2,)
        with open_catalogue(place, read_only=True) as catalogue:
            assert len(living(catalogue)) == 2
    finally:
        run("umount", place)


def test_write_copy_while_another_process_writes_is_consistent(filled: Path, tmp_path: Path) -> None:
    with open_catalogue(filled) as one, open_catalogue(filled) as two:
        two.files.record_folder(b"/open", FolderChanges([], [], [], [], []), 1)
        one.write_copy(os.fsencode(tmp_path / NAME))
        two.files.commit()
    with open_catalogue(tmp_path) as copy:
        assert len(living(copy)) == 2


def test_write_copy_place_that_takes_none_is_an_error_of_that_place(filled: Path, tmp_path: Path) -> None:
    with open_catalogue(filled) as catalogue:
        with pytest.raises(FileNotFoundError):
            catalogue.write_copy(os.fsencode(tmp_path / "missing" / NAME))
        assert len(living(catalogue)) == 2


# --- migrations ------------------------------------------------------------------------------------------------------


def test_migrate_older_catalogue_is_kept_beside_and_brought_up(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "ALTER TABLE session ADD COLUMN more TEXT;"))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with open_catalogue(filled) as catalogue:
        assert len(living(catalogue)) == 2
        database: Database = catalogue.files._database
        assert database.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    kept = filled / f"{NAME}.before-version-{schema.VERSION}"
    with closing(sqlite3.connect(kept)) as plain:
        assert plain.execute("PRAGMA user_version").fetchone() == (schema.VERSION - 1,)
        assert plain.execute("SELECT count(*) FROM file").fetchone() == (2,)


def test_migrate_first_version_is_brought_up_also_for_whoever_only_reads(tmp_path: Path) -> None:
    tmp_path.joinpath("old").mkdir()
    path = tmp_path / "old" / NAME
    with closing(sqlite3.connect(path)) as first:
        first.executescript(f"{schema.FIRST} PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version=1;")
        first.execute(
            "INSERT INTO disk (uuid, name, capacity, relative_path, last_path, added_at) VALUES ('u', 'one', 5, x'', x'', 1)"
        )
        first.commit()
    with open_catalogue(path.parent, read_only=True) as catalogue:
        disk = catalogue.disks.find("one")
        assert disk is not None
        assert (disk.capacity, disk.luks_uuid) == (5, None)
    assert path.with_name(f"{NAME}.before-version-2").exists()


def test_migrate_that_fails_leaves_the_catalogue_as_it_was(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "DELETE FROM file; SELECT * FROM nothing;"))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with pytest.raises(CatalogueTrouble), open_catalogue(filled):
        pass
    monkeypatch.undo()
    with open_catalogue(filled) as catalogue:
        assert len(living(catalogue)) == 2


# --- crashes ---------------------------------------------------------------------------------------------------------

_WRITER = """
import sys
from pathlib import Path
from distbackupd.catalogue.catalogue import open_catalogue
from tests.unit.catalogue.making import add_files, add_disk, object_id, digest, entry, wait_for_hash
with open_catalogue(Path(sys.argv[1])) as catalogue:
    disk = add_disk(catalogue, "one")
    for number in range(100_000):
        folder = b"/%d" % number
        add_files(catalogue, folder, *(b"%d" % name for name in range(20)))
        catalogue.objects.record_copies(disk.id, [object_id(catalogue, folder + b"/%d" % name) for name in range(20)])
        print(number, flush=True)
        wait_for_hash(catalogue, b"/uncommitted%d" % number, entry(b"x"))
"""


def test_open_after_its_writer_was_killed_has_all_that_was_recorded(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as writer:
        assert writer.stdout is not None
        last = [int(writer.stdout.readline()) for _ in range(30)][-1]
        writer.kill()
        last = max([last, *map(int, writer.stdout.read().split("\n")[:-1])])
    with open_catalogue(tmp_path) as catalogue:
        database: Database = catalogue.files._database
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        paths = living(catalogue).keys()
        assert {b"/%d/%d" % (number, name) for number in range(last + 1) for name in range(20)} <= paths
        assert len(paths) % 20 == 0
        count, _ = catalogue.disks.used(catalogue.disks.all()[0].id)
        assert count >= 20 * (last + 1)
        assert catalogue.files.waiting_total() == (0, 0)


# --- size ------------------------------------------------------------------------------------------------------------


def _content(number: int) -> bytes:
    """Every tenth is the same as the one before it."""
    return digest(b"%d" % (number - (number % 10 == 0)))


def _fill_realistically(catalogue: Catalogue, count: int) -> None:
    """Files as people have them: 20 in a folder, names of about 20 bytes, every tenth content twice, 8 owners and modes."""
    kinds = [Attributes(mode, uid, uid) for mode in (0o644, 0o600) for uid in (0, 33, 1000, 1001)]
    files = catalogue.files
    inode = 1_000_000
    for start in range(0, count, 20):
        folder = b"/photos/holidays %04d/day %02d of the journey" % (start // 400, start // 20 % 20)
        waiting: list[tuple[Entry, int | None]] = []
        for number in range(start, start + 20):
            inode += 1
            moment = 1_600_000_000_000_000_000 + number * 1_000_003
            name = b"IMG_2024%06d_edited.jpg" % number
            size, attributes = 2_000_000 + number, kinds[number % 8]
            entry = Entry(name, EntryKind.FILE, size, moment, moment, 2050, inode, EntryFlag.NONE, attributes, b"", 1, 0, 0)
            waiting.append((entry, None))
        files.record_folder(folder, FolderChanges([], [], [], [], waiting), 1_700_000_000)
        if start % 4000 == 3980:
            batch = [HashedFile(item.ticket, _content(start + item.ticket), True) for item in files.waiting()]
            files.record_hashes(batch, 1_700_000_000)
            files.start_scan()
    files.finish_scan(1_700_000_000, whole=True)


def test_size_of_a_hundred_thousand_files_is_at_most_255_bytes_each(
    tmp_path: Path, record_property: pytest.RecordProperty, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 100_000
    began = time.monotonic()
    with open_catalogue(tmp_path / "grown") as catalogue:
        _fill_realistically(catalogue, count)
        assert catalogue.files.count()[0] == count
        disks = [add_disk(catalogue, name) for name in ("one", "two")]
        identifiers = [item.id for item in list(catalogue.objects.facts())]
        assert len(identifiers) == count * 9 // 10
        for disk in disks:
            catalogue.objects.record_copies(disk.id, identifiers)
        copy = tmp_path / "copy.sqlite"
        catalogue.write_copy(os.fsencode(copy))
    grown = (tmp_path / "grown" / NAME).stat().st_size / count
    with closing(sqlite3.connect(copy)) as plain:
        plain.execute("VACUUM")
    packed = copy.stat().st_size / count
    text = f"{grown:.0f} bytes a file as it is, {packed:.0f} after VACUUM ({time.monotonic() - began:.1f} s)"
    record_property("bytes_per_file", text)
    with capsys.disabled():
        print(f"\n{text}")
    assert grown <= 255


def test_size_extended_attributes_of_every_file_are_stored_once(tmp_path: Path) -> None:
    value, count = 3_500, 2_000
    kept = {b"%d" % number: ((b"user.note", bytes([number % 256]) * 10 + os.urandom(value)),) for number in range(count)}
    with open_catalogue(tmp_path) as catalogue:
        entries = [entry(name, EntryKind.FOLDER, attributes=PLAIN._replace(xattrs=xattrs)) for name, xattrs in kept.items()]
        for _ in range(2):  # known ones are found again
            rows = {catalogue.files.attributes_id(item) for item in entries}
        catalogue.files.record_folder(b"/", changes([(item, None) for item in entries]), 1)
        catalogue.files.finish_scan(1, whole=False)
        told = {item.path[1:]: item.attributes.xattrs for item in catalogue.history.entries(b"/") if item.path != b"/"}
    assert len(rows) == count
    assert told == kept
    assert (tmp_path / NAME).stat().st_size <= 1.3 * value * count


def test_migrate_extended_attributes_are_found_by_their_hash_afterwards(tmp_path: Path) -> None:
    marked = entry(b"marked", EntryKind.FOLDER, attributes=PLAIN._replace(xattrs=((b"user.a", b"b" * 300),)))
    plain = entry(b"plain", EntryKind.FOLDER)
    with open_catalogue(tmp_path / "new") as catalogue:
        catalogue.files.record_folder(b"/", changes([(marked, None), (plain, None)]), 1)
        catalogue.files.finish_scan(1, whole=False)
    (tmp_path / "old").mkdir()
    write_as_version(tmp_path / "new" / NAME, tmp_path / "old" / NAME, 4)
    with open_catalogue(tmp_path / "old") as catalogue:
        for item in (marked, plain):
            known = next(known for known in catalogue.files.folder(b"/") if known.name == item.name)
            assert catalogue.files.attributes_id(item) == known.attributes


@pytest.mark.needs("root")
@pytest.mark.parametrize("trap", [FILE_NAME, "engine.lock"])
def test_root_follows_no_link_in_a_folder_of_another_user(tmp_path: Path, trap: str) -> None:
    folder, elsewhere = tmp_path / "service", tmp_path / "elsewhere"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    (folder / trap).symlink_to(elsewhere)
    with pytest.raises(CatalogueTrouble), engine_lock(folder, "dsb"):
        Database(folder / FILE_NAME)
    assert not elsewhere.exists()
    # Whose folder it is may have it elsewhere.
    os.chown(folder, 0, 0)
    if trap == FILE_NAME:
        Database(folder / FILE_NAME).close()
        assert elsewhere.exists()


def test_rest_gives_memory_back_and_goes_on(tmp_path: Path) -> None:
    def anonymous() -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) << 10

    with closing(Database(tmp_path / NAME)) as database:
        with database.transaction() as connection:
            rows = ((str(number), os.urandom(2000).hex()) for number in range(8000))
            connection.executemany("INSERT INTO fact (key, value) VALUES (?, ?)", rows)
        before = anonymous()
        database.rest()
        assert anonymous() < before - (10 << 20)
        assert database.execute("SELECT count(*) FROM fact WHERE key < '1'").fetchone()
