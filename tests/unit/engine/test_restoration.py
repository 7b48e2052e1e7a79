from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbackupd.engine.restoration import restore
from distbackupd.engine.restore_meaning import RestoreOptions
from distbackupd.model.errors import DiskGone, Interrupted
from distbackupd.model.events import BadCopyFound
from distbackupd.planning.selection import Selection
from distbackupd.sources.target import FolderTarget
from tests.hand_made import HandMade, ObjectFolder, hand_made
from tests.trees import assert_same_tree, build_nasty_tree, describe_tree, write_file


class Listener:
    """A Reporter that remembers."""

    def __init__(self):
        self.told = []
        self.items = 0

    def tell(self, event):
        self.told.append(event)

    def begin(self, activity, items=0, total_bytes=0):
        assert activity == "restoring"

    def advance(self, items, done_bytes, current=b""):
        self.items += items

    def end(self):
        pass

    @property
    def sentences(self):
        return [event.sentence for event in self.told]


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def backup(tmp_path):
    with hand_made(tmp_path, "photos-01", "music-01", "attic-01") as backup:
        yield backup


@pytest.fixture
def bring_back(backup, tmp_path, listener):
    """Restore from the disk with this index (None: no disk) to ``tmp_path/destination``."""

    def bring_back(index=0, stop=None, destination=tmp_path / "destination", store=None, **options):
        disk = None if index is None else backup.disks[index]
        store = store or (None if index is None else backup.stores[index])
        with FolderTarget(os.fsencode(destination)) as target:
            return restore(
                backup.catalogue, disk, store, target, RestoreOptions(**options), listener, stop or threading.Event()
            )

    return bring_back


@pytest.fixture
def source(tmp_path):
    source = tmp_path / "source"
    for name in (b"a/one", b"a/two", b"a/b/three", b"c/four"):
        path = os.fsencode(source) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_file(path, b"content of " + name)
    os.chmod(source / "a", 0o2751)
    os.utime(source / "a", ns=(1, 123_456_789))
    return source


@pytest.mark.needs("root")  # only root reads all of the tree
def test_restore_nasty_tree_gives_the_same_tree(backup, bring_back, tmp_path):
    build_nasty_tree(tmp_path / "source")
    backup.back_up(tmp_path / "source")
    report = bring_back()
    assert report.complete
    assert not report.not_kept
    assert_same_tree(tmp_path / "source", tmp_path / "destination")
    again = bring_back()
    assert (again.restored, again.left_alone) == (0, report.restored + report.left_alone)
    assert_same_tree(tmp_path / "source", tmp_path / "destination")


@pytest.mark.needs("root")  # only root reads all of the tree
def test_restore_nasty_tree_over_damaged_metadata_repairs_it(backup, bring_back, tmp_path):
    build_nasty_tree(tmp_path / "source", deep=False)
    backup.back_up(tmp_path / "source")
    bring_back()
    for folder, folders, files in os.walk(os.fsencode(tmp_path / "destination")):
        for name in folders + files:
            os.utime(folder + b"/" + name, follow_symlinks=False) if name in folders else None
            if not os.path.islink(folder + b"/" + name):
                os.chmod(folder + b"/" + name, 0o700)
    os.unlink(tmp_path / "destination/plain/linked")
    shutil.copy2(tmp_path / "source/plain/linked", tmp_path / "destination/plain/linked")
    assert bring_back().complete
    os.utime(tmp_path / "destination", ns=(0, os.stat(tmp_path / "source").st_mtime_ns))
    os.chmod(tmp_path / "destination", stat.S_IMODE(os.stat(tmp_path / "source").st_mode))
    assert_same_tree(tmp_path / "source", tmp_path / "destination")


@pytest.mark.needs("root")  # only root reads all of the tree
def test_restore_from_several_disks_in_turn_gives_the_same_tree(backup, bring_back, tmp_path):
    build_nasty_tree(tmp_path / "source")
    backup.back_up(tmp_path / "source", holders=lambda number: (number % 3,))
    reports = [bring_back(index) for index in range(3)]
    assert [report.complete for report in reports] == [False, False, True]
    assert (
        reports[0].missing_files == reports[0].needed_disks[backup.disks[1].id] + reports[0].needed_disks[backup.disks[2].id]
    )
    assert list(reports[1].needed_disks) == [backup.disks[2].id]
    assert_same_tree(tmp_path / "source", tmp_path / "destination")


def test_restore_without_disk_makes_what_has_no_content_and_names_the_disks(backup, bring_back, source, tmp_path):
    write_file(source / "empty", b"")
    os.symlink("one", source / "a/link")
    backup.back_up(source, holders=lambda number: [(0, 1), (1,), (), (2,)][number])
    report = bring_back(None)
    assert sorted(os.listdir(tmp_path / "destination")) == ["a", "c", "empty"]
    assert sorted(os.listdir(tmp_path / "destination/a")) == ["b", "link"]
    assert (report.missing_files, report.unheld) == (4, 1)
    assert sorted(report.missing_names) == [b"/a/b/three", b"/a/one", b"/a/two", b"/c/four"]
    assert report.needed_disks == {backup.disks[0].id: 1, backup.disks[1].id: 2, backup.disks[2].id: 1}


def test_restore_several_sources_brings_each_to_its_place(backup, bring_back, source, tmp_path):
    backup.back_up(source / "a", b"/photos/a")
    backup.back_up(source / "c", b"/music")
    assert bring_back().complete
    assert_same_tree(source / "a", tmp_path / "destination/photos/a")
    assert_same_tree(source / "c", tmp_path / "destination/music")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (b"/a", {b"", b"a", b"a/one", b"a/two", b"a/b", b"a/b/three"}),
        (b"/a/b/three", {b"", b"a", b"a/b", b"a/b/three"}),
        (b"*/three", {b"", b"a", b"a/b", b"a/b/three"}),
        (b"/c*", {b"", b"c", b"c/four"}),
        (b"/nothing", set()),
    ],
)
def test_restore_pattern_brings_what_it_means_with_the_folders_above(
    backup, bring_back, source, tmp_path, pattern, expected
):
    backup.back_up(source)
    report = bring_back(selection=Selection([pattern]))
    assert report.complete
    if not expected:
        assert report.restored == 0
        return
    found = describe_tree(tmp_path / "destination")
    assert set(found) == expected
    wanted = describe_tree(source)
    assert all(found[path] == wanted[path] for path in expected)


def test_restore_bad_copy_is_reported_and_another_disk_brings_the_file(backup, bring_back, source, listener, tmp_path):
    backup.back_up(source, holders=lambda number: (0, 1))
    digest = backup.stores[0].add(b"content of a/one")
    backup.stores[0].path(digest).write_bytes(b"content of a/0ne")
    backup.stores[0].path(backup.stores[0].add(b"content of c/four")).unlink()
    report = bring_back()
    assert sorted(path for path, _ in report.failed) == [b"/a/one", b"/c/four"]
    assert digest in report.bad_digests
    assert {event.digest for event in listener.told if isinstance(event, BadCopyFound)} == {
        d.hex() for d in report.bad_digests
    }
    assert not (tmp_path / "destination/a/one").exists()
    for bad in backup.catalogue.objects.identifiers(report.bad_digests).values():
        backup.catalogue.objects.strike(backup.disks[0].id, bad)
    assert bring_back(0).needed_disks == {backup.disks[1].id: 2}
    assert bring_back(1).complete
    assert_same_tree(source, tmp_path / "destination")


def test_restore_file_in_the_way_is_kept_and_told_unless_overwritten(backup, bring_back, source, listener, tmp_path):
    backup.back_up(source)
    (tmp_path / "destination/a").mkdir(parents=True)
    write_file(tmp_path / "destination/a/one", b"mine")
    report = bring_back()
    assert (report.in_the_way, report.in_the_way_names) == (1, (b"/a/one",))
    assert not report.complete
    assert (tmp_path / "destination/a/one").read_bytes() == b"mine"
    assert any("--overwrite" in sentence for sentence in listener.sentences)
    assert bring_back(overwrite=True).complete
    assert (tmp_path / "destination/a/one").read_bytes() == b"content of a/one"


def test_restore_simulate_counts_and_changes_nothing(backup, bring_back, source, tmp_path):
    backup.back_up(source, holders=lambda number: (number % 2,))
    report = bring_back(simulate=True)
    assert not (tmp_path / "destination").exists()
    assert (report.restored, report.missing_files) == (6, 2)
    bring_back()
    before = describe_tree(tmp_path / "destination")
    again = bring_back(1, simulate=True)
    assert (again.restored, again.missing_files, again.left_alone) == (2, 0, 6)
    assert describe_tree(tmp_path / "destination") == before


def test_restore_existing_ignores_what_is_there_already(backup, bring_back, source, tmp_path):
    backup.back_up(source)
    shutil.copytree(source, tmp_path / "kept")
    (tmp_path / "kept/a/two").unlink()
    report = bring_back(existing=(os.fsencode(tmp_path / "kept"),))
    assert report.complete
    found = describe_tree(tmp_path / "destination")
    assert set(found) == {b"", b"a", b"a/two"}
    assert found[b"a"] == describe_tree(source)[b"a"]


def test_restore_link_makes_names_of_the_objects(backup, bring_back, source, tmp_path):
    backup.back_up(source)
    report = bring_back(link=True)
    assert (report.restored_bytes, report.complete) == (0, True)
    for name in ("a/one", "a/b/three"):
        digest = hashlib.sha256(f"content of {name}".encode()).digest()
        assert os.path.samefile(tmp_path / "destination" / name, backup.stores[0].path(digest))


def test_restore_hard_links_that_are_no_more_the_same_file_stay_apart(backup, bring_back, source, tmp_path):
    os.link(source / "a/one", source / "c/one")
    backup.back_up(source / "a", b"/a")
    os.unlink(source / "c/one")
    write_file(source / "c/one", b"another content")
    backup.back_up(source / "c", b"/c")
    assert bring_back().complete
    assert (tmp_path / "destination/c/one").read_bytes() == b"another content"


def test_restore_stopped_says_what_stays_and_goes_on_later(backup, bring_back, source, tmp_path):
    backup.back_up(source)
    stop = threading.Event()
    store = backup.stores[0]

    class Stopping:
        def open_object(self, digest):
            stop.set()
            return store.open_object(digest)

    with pytest.raises(Interrupted, match="goes on there"):
        bring_back(stop=stop, store=Stopping())
    assert not [name for name in describe_tree(tmp_path / "destination") if b".dbtmp" in name]
    assert bring_back().complete
    assert_same_tree(source, tmp_path / "destination")


def test_restore_disk_is_pulled_out_ends_and_leaves_folders_finished(backup, bring_back, source, tmp_path):
    backup.back_up(source)

    class Gone:
        def open_object(self, digest):
            raise DiskGone("the disk is gone")

    with pytest.raises(DiskGone):
        bring_back(store=Gone())
    state = os.stat(tmp_path / "destination/a")
    assert (stat.S_IMODE(state.st_mode), state.st_mtime_ns) == (0o2751, 123_456_789)


def test_restore_catalogue_full_of_traps_stays_inside(backup, bring_back, source, listener, tmp_path):
    backup.back_up(source)
    database = backup.catalogue.files._database
    database.begin()
    database.execute("UPDATE file SET name = CAST('../../outside' AS BLOB) WHERE name = CAST('one' AS BLOB)")
    database.execute("UPDATE folder SET path = CAST('/a/../../outside' AS BLOB) WHERE path = CAST('/a/b' AS BLOB)")
    database.execute("UPDATE file SET name = CAST('..' AS BLOB) WHERE name = CAST('c' AS BLOB)")
    database.commit()
    before = set(os.listdir(tmp_path))
    report = bring_back()
    assert set(os.listdir(tmp_path)) - before == {"destination"}
    assert report.failed_files == 3
    assert sorted(describe_tree(tmp_path / "destination")) == [b"", b"a", b"a/b", b"a/two", b"c", b"c/four"]
    assert all("outside the destination" in reason for _, reason in report.failed)


@contextlib.contextmanager
def nobody():
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.mark.needs("root")
def test_restore_as_ordinary_user_tells_what_it_cannot_keep(backup, bring_back, source, listener, tmp_path, monkeypatch):
    os.chown(source / "a/one", 1234, 1234)
    os.chmod(source / "a/two", 0o4755)
    os.mknod(source / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.chmod(source / "c", 0o500)
    backup.back_up(source)
    os.mkdir(tmp_path / "open")
    os.chmod(tmp_path / "open", 0o777)
    os.chmod(tmp_path, 0o755)
    # By relative paths: others may not pass through the folders above.
    monkeypatch.chdir(tmp_path)
    store = ObjectFolder(Path("photos-01"))
    with nobody():
        assert bring_back(destination=Path("open/destination"), store=store).complete
        first = listener.sentences[-1]
        assert bring_back(destination=Path("open/destination"), store=store).complete
        again = listener.sentences[-1]
    assert first.startswith("the destination could not keep everything: device node (1 times), ")
    assert "owner (8 times)" in first
    assert "mode (2 times)" in first  # setuid, and setgid of a folder, are not given to somebody else
    assert "owner" in again
    assert stat.S_IMODE(os.stat(tmp_path / "open/destination/a/two").st_mode) == 0o755


names = st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))
contents = st.binary(max_size=40) | st.integers(1, 5).map(lambda pages: bytes(pages * 4096) + b"end")
trees = st.recursive(
    contents | st.tuples(st.just("link"), names),
    lambda below: st.dictionaries(names, below, max_size=5),
    max_leaves=20,
)


def grow(path: bytes, tree, moment: int) -> None:
    if isinstance(tree, dict):
        os.mkdir(path)
        for number, (name, below) in enumerate(tree.items()):
            grow(path + b"/" + name, below, moment * 7 + number)
    elif isinstance(tree, tuple):
        os.symlink(tree[1], path)
    else:
        write_file(path, tree)
    os.chmod(path, 0o700 | moment % 0o7777) if not isinstance(tree, tuple) else None
    os.utime(path, ns=(0, moment * 1_000_003 % 4 * 10**18), follow_symlinks=False)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(st.dictionaries(names, trees, max_size=6), st.lists(st.integers(0, 1), min_size=1, max_size=7))
def test_restore_any_tree_from_any_disks_gives_the_same_tree(tmp_path, tree, shares):
    place = tmp_path / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    grow(os.fsencode(place / "source"), tree, 12_345)
    with hand_made(place, "one", "two") as backup:
        assert isinstance(backup, HandMade)
        backup.back_up(place / "source", holders=lambda number: (shares[number % len(shares)],))
        for index in (1, 0):
            with FolderTarget(os.fsencode(place / "destination")) as target:
                report = restore(
                    backup.catalogue,
                    backup.disks[index],
                    backup.stores[index],
                    target,
                    RestoreOptions(),
                    Listener(),
                    threading.Event(),
                )
    assert report.complete
    assert describe_tree(place / "source") == describe_tree(place / "destination")
