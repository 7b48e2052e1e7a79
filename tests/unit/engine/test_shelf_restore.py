from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import SessionSummary
from distbackupd.engine.restore_meaning import RestoreOptions
from distbackupd.engine.restore_tally import RestoreReport
from distbackupd.engine.shelf_restore import ShelfRestore
from distbackupd.model.disks import DiskIdentity, Volume
from distbackupd.model.errors import Interrupted
from distbackupd.model.events import BadCopyFound, MayUnplug, Remark
from distbackupd.planning.disk_choice import Share
from distbackupd.planning.restore_plan import RestorePlan
from distbackupd.planning.selection import Selection
from distbackupd.sources.target import FolderTarget
from distbackupd.store.folder_store import FolderStore
from tests.fakes.clock import FakeClock
from tests.fakes.mounter import FakeMounter
from tests.fakes.reporter import FakeReporter
from tests.hand_made import HandMade, hand_made
from tests.trees import assert_same_tree, build_nasty_tree, describe_tree, write_file

NAMES = ("photos-01", "music-01", "attic-01")


class Shelf:
    """Hand-made disks that can be plugged in and pulled out, and somebody who does that."""

    def __init__(self, place: Path, backup: HandMade) -> None:
        self.place = place
        self.backup = backup
        self.mounter = FakeMounter(place / "shelf")
        self.reporter = FakeReporter()
        self.stop = threading.Event()
        self.shown: list[RestorePlan] = []
        self.asked: list[list[str]] = []
        self.brings: Callable[[str], None] = self.plug
        self.volumes: dict[str, Volume] = {}
        bench = Bench(
            backup.catalogue,
            None,
            self.mounter,
            self._open_store,
            self.reporter,
            FakeClock(),  # type: ignore[arg-type]
        )
        self.bench = bench
        self.after_open: Callable[[bytes], None] = lambda _digest: None

    def _open_store(self, root: bytes, mount) -> FolderStore:
        shelf = self

        class Watched(FolderStore):
            def open_object(self, digest: bytes) -> int:
                descriptor = super().open_object(digest)
                shelf.after_open(digest)
                return descriptor

        return Watched(root, mount.filesystem_type)

    def settle(self) -> None:
        """Turn the folders of the hand-made backup into disks, none of which is plugged in."""
        for disk, store in zip(self.backup.disks, self.backup.stores, strict=True):
            volume = self.mounter.new_disk()
            content = self.mounter.content(volume)
            if store.root.exists():
                shutil.copytree(store.root, content, dirs_exist_ok=True)
            FolderStore(os.fsencode(content), "ext4").write_identity(DiskIdentity(disk.uuid, disk.name))
            self.backup.catalogue.disks.update(replace(disk, filesystem_uuid=volume.filesystem_uuid))
            self.volumes[disk.name] = volume
            self.mounter.unplug(volume)

    def plug(self, name: str) -> None:
        self.mounter.plug(self.volumes[name])

    def unplug(self, name: str) -> None:
        self.mounter.unplug(self.volumes[name])

    def damage(self, name: str, content: bytes, wrong: bytes | None) -> None:
        """The disk's copy of this content becomes something else, or is gone."""
        store = self.backup.stores[0].__class__(self.mounter.content(self.volumes[name]))
        path = store.path(store.add(content))
        path.unlink()
        if wrong is not None:
            path.write_bytes(wrong)

    # --- the attendant

    def show(self, plan: RestorePlan) -> None:
        self.shown.append(plan)

    def ask(self, plan: RestorePlan) -> None:
        self.asked.append([planned.disk.name for planned in plan.disks])

    def wait(self) -> None:
        self.brings(self.asked[-1][0])

    # --- what is tested

    def restore(self, patient: bool = True, without: Sequence[str] = (), **options) -> RestoreReport:
        with FolderTarget(os.fsencode(self.place / "destination")) as target:
            return self._restoring(target, without, **options).run(self, patient)

    def plan(self, without: Sequence[str] = (), **options) -> RestorePlan:
        with FolderTarget(os.fsencode(self.place / "destination")) as target:
            return self._restoring(target, without, simulate=True, **options).survey()

    def _restoring(self, target: FolderTarget, without: Sequence[str], **options) -> ShelfRestore:
        left_out = {disk.id for disk in self.backup.disks if disk.name in without}
        return ShelfRestore(self.bench, target, RestoreOptions(**options), self.stop, left_out)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with hand_made(tmp_path, *NAMES) as backup:
        yield Shelf(tmp_path, backup)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six files of 100 to 600 bytes."""
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    for number in range(1, 7):
        write_file(source / "a" / f"{number}", bytes([number]) * number * 100)
    os.utime(source / "a", ns=(1, 987_654_321))
    return source


def spread(shelf: Shelf, source: Path, *holders: tuple[int, ...]) -> None:
    """Back the files of the source up, of the n-th smallest a copy on each of these disks."""
    sizes = sorted(path.stat().st_size for path in source.rglob("*") if path.is_file())
    order = list(shelf_order(source))
    shelf.backup.back_up(source, holders=lambda number: holders[sizes.index(order[number])])
    shelf.settle()


def shelf_order(source: Path) -> Iterator[int]:
    """Sizes in the order in which ``back_up`` meets the files."""
    for name in sorted(os.listdir(source / "a")):
        yield (source / "a" / name).stat().st_size


def names(plan: RestorePlan) -> list[str]:
    return [planned.disk.name for planned in plan.disks]


@pytest.mark.needs("root")  # only root reads all of the tree
def test_restore_nasty_tree_from_three_disks_gives_the_same_tree(shelf: Shelf, tmp_path: Path) -> None:
    build_nasty_tree(tmp_path / "source")
    shelf.backup.back_up(tmp_path / "source", holders=lambda number: (number % 3,))
    shelf.settle()
    report = shelf.restore()
    assert report.complete
    assert not report.not_kept
    assert_same_tree(tmp_path / "source", tmp_path / "destination")
    assert len(shelf.asked) == 3
    assert [event.disk for event in shelf.reporter.told(MayUnplug)] == [asked[0] for asked in shelf.asked]
    again = shelf.restore()
    assert (again.restored, again.left_alone, len(shelf.asked)) == (0, report.restored + report.left_alone, 3)
    assert_same_tree(tmp_path / "source", tmp_path / "destination")


def test_restore_shows_the_plan_first_and_asks_for_the_largest_share_first(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (0, 1), (0, 1), (1,), (1,), (2,))
    shelf.restore()
    assert [names(plan) for plan in shelf.shown] == [["music-01", "attic-01", "photos-01"]]
    assert [planned.share for planned in shelf.shown[0].disks] == [Share(4, 1400), Share(1, 600), Share(1, 100)]
    assert shelf.asked == [["music-01", "attic-01", "photos-01"], ["attic-01", "photos-01"], ["photos-01"]]


def test_restore_reads_what_is_here_and_asks_for_no_disk_without_need(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0, 1), (0, 1), (0,), (0, 2), (0,), (0, 2))
    for name in ("photos-01", "attic-01"):
        shelf.plug(name)
    assert shelf.restore().complete
    assert shelf.asked == []
    assert [entry for entry in shelf.mounter.log if entry.startswith("mount")] == ["mount photos-01"]


def test_restore_another_disk_than_asked_is_taken_while_that_one_is_fetched(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (0,), (0, 1), (0, 1), (0,), (0, 2))
    came = iter(["attic-01", "photos-01"])
    shelf.brings = lambda _asked: shelf.plug(next(came))
    assert shelf.restore().complete
    assert [event.disk for event in shelf.reporter.told(MayUnplug)] == ["attic-01", "photos-01"]
    assert shelf.asked == [["photos-01"]]


def test_restore_impatient_takes_what_is_here_and_tells_the_rest(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (1,), (1,), (0, 2), (2,), ())
    shelf.plug("photos-01")
    report = shelf.restore(patient=False)
    ids = [disk.id for disk in shelf.backup.disks]
    assert (report.restored, report.left_alone) == (3, 1)  # a folder and two files; the root
    assert report.missing == {frozenset({ids[1]}): (2, 500), frozenset({ids[2]}): (1, 500), frozenset(): (1, 600)}
    assert shelf.shown[0].lost_names == (b"/a/6",)
    assert os.stat(shelf.place / "destination/a").st_mtime_ns == 987_654_321


def test_restore_bad_and_missing_copies_are_brought_by_another_disk(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0, 1), (0, 1), (0, 2), (0,), (0,), (0,))
    shelf.damage("photos-01", bytes([1]) * 100, bytes([1]) * 99 + b"?")
    shelf.damage("photos-01", bytes([2]) * 200, None)
    shelf.damage("photos-01", bytes([3]) * 300, b"cut")
    report = shelf.restore()
    assert report.complete
    assert len(report.bad_digests) == len(shelf.reporter.told(BadCopyFound)) == 3
    assert shelf.asked == [["photos-01"], ["music-01", "attic-01"], ["attic-01"]]
    assert_same_tree(source, shelf.place / "destination")


def test_restore_content_that_is_bad_everywhere_is_missing_and_the_rest_is_there(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0, 1), (0,), (0,), (0,), (0,), (0,))
    for name in ("photos-01", "music-01"):
        shelf.damage(name, bytes([1]) * 100, b"x" * 100)
    report = shelf.restore()
    assert report.missing == {frozenset(): (1, 100)}
    assert not report.complete
    assert sorted(os.listdir(shelf.place / "destination/a")) == ["2", "3", "4", "5", "6"]


def test_restore_disk_is_pulled_out_and_comes_again_goes_on(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (0,), (0,), (0,), (0, 1), (0, 1))
    pulled = []

    def pull(_digest: bytes) -> None:
        if not pulled:
            pulled.append(True)
            shelf.unplug("photos-01")

    shelf.after_open = pull
    assert shelf.restore().complete
    assert len(pulled) == 1
    assert not shelf.reporter.told(BadCopyFound)
    assert_same_tree(source, shelf.place / "destination")


def test_restore_foreign_disk_in_place_of_ours_is_told_and_waited_for(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (0,), (0,), (0,), (0,), (0,))
    content = shelf.mounter.content(shelf.volumes["photos-01"])
    FolderStore(os.fsencode(content), "ext4").write_identity(DiskIdentity("99999999-0000-4000-8000-000000000000", "x"))
    waits = []

    def right_it(_asked: str) -> None:
        waits.append(len(shelf.reporter.told(Remark)))
        if len(waits) == 1:
            shelf.plug("photos-01")
        elif len(waits) == 4:
            shelf.unplug("photos-01")
            disk = shelf.backup.disks[0]
            FolderStore(os.fsencode(content), "ext4").write_identity(DiskIdentity(disk.uuid, disk.name))
        elif len(waits) == 5:
            shelf.plug("photos-01")

    shelf.brings = right_it
    assert shelf.restore().complete
    assert waits == [0, 1, 1, 1, 1]  # told once, however long it stays
    assert "is 'x'" in shelf.reporter.told(Remark)[0].sentence


def test_restore_without_a_disk_asks_for_others_and_names_what_only_that_one_holds(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (0, 1), (0, 1), (0, 2), (0, 2), (0, 2))
    assert names(shelf.plan()) == ["photos-01"]
    plan = shelf.plan(without=["photos-01"])
    assert (names(plan), plan.lost, plan.lost_names) == (["attic-01", "music-01"], (1, 100), (b"/a/1",))
    report = shelf.restore(without=["photos-01"])
    assert report.missing_files == 1
    assert len(os.listdir(shelf.place / "destination/a")) == 5


def test_plan_tells_what_can_be_replaced_and_changes_nothing(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (0, 1), (1, 2), (1, 2), (1, 2), (1, 2))
    plan = shelf.plan()
    assert {planned.disk.name: planned.replaceable for planned in plan.disks} == {
        "photos-01": False,
        plan.disks[0].disk.name: True,
    }
    assert not (shelf.place / "destination").exists()


def test_plan_of_equal_disks_takes_the_one_verified_last(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, *[(0, 1, 2)] * 6)
    shelf.backup.catalogue.disks.record_verified(shelf.backup.disks[1].id, range(4096), 1_600_000_000)
    shelf.backup.catalogue.disks.record_verified(shelf.backup.disks[2].id, range(4096), 1_500_000_000)
    assert names(shelf.plan()) == ["music-01"]


def test_plan_after_some_was_restored_asks_for_the_rest_only(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (0,), (0,), (1,), (1,), (2,))
    shelf.plug("photos-01")
    shelf.restore(patient=False)
    shelf.unplug("photos-01")
    assert [(planned.disk.name, planned.share) for planned in shelf.plan().disks] == [
        ("music-01", (2, 900)),
        ("attic-01", (1, 600)),
    ]
    (shelf.place / "destination/a/1").unlink()
    assert names(shelf.plan()) == ["music-01", "attic-01", "photos-01"]
    before = describe_tree(shelf.place / "destination")
    shelf.plan()
    assert describe_tree(shelf.place / "destination") == before


def test_restore_wrong_file_is_kept_counted_once_and_no_disk_fetched_for_it(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (0,), (0,), (0,), (0,), (1,))
    (shelf.place / "destination/a").mkdir(parents=True)
    write_file(shelf.place / "destination/a/6", b"mine")
    write_file(shelf.place / "destination/a/1", b"mine too")
    report = shelf.restore()
    assert (report.in_the_way, sorted(report.in_the_way_names)) == (2, [b"/a/1", b"/a/6"])
    assert shelf.asked == [["photos-01"]]
    assert (shelf.place / "destination/a/6").read_bytes() == b"mine"
    assert shelf.restore(overwrite=True).complete
    assert_same_tree(source / "a", shelf.place / "destination/a")


def test_restore_name_of_a_file_that_an_earlier_restore_brought_joins_it_without_a_disk(shelf: Shelf, source: Path) -> None:
    (source / "b").mkdir()
    os.link(source / "a/1", source / "b/other name")
    os.link(source / "a/1", source / "a/third name")
    shelf.backup.back_up(source)
    shelf.settle()
    assert shelf.restore(selection=Selection([b"/a/1"])).complete
    shelf.unplug("photos-01")
    shelf.asked.clear()
    assert shelf.restore(selection=Selection([b"/b", b"/a/third name"])).complete
    assert shelf.asked == []
    first = shelf.place / "destination/a/1"
    assert first.samefile(shelf.place / "destination/b/other name")
    assert first.samefile(shelf.place / "destination/a/third name")


def test_restore_stopped_while_it_waits_ends_and_goes_on_later(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (1,), (1,), (1,), (1,), (1,))
    shelf.brings = lambda asked: shelf.plug(asked) if asked == "music-01" else shelf.stop.set()
    with pytest.raises(Interrupted, match="the same command goes on there"):
        shelf.restore()
    shelf.stop.clear()
    shelf.brings = shelf.plug
    assert shelf.restore().complete
    assert_same_tree(source, shelf.place / "destination")


def test_restore_at_a_date_brings_that_version_and_names_what_is_held_no_more(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (0,), (0,), (0,), (0,), ())
    files = shelf.backup.catalogue.files
    known = {entry.name: entry for entry in files.folder(b"/a")}
    files._database.begin()
    files._database.execute("UPDATE file SET gone = 50 WHERE id IN (?, ?)", (known[b"1"].row, known[b"6"].row))
    files.commit()
    assert shelf.restore(at=49).missing == {frozenset(): (1, 600)}
    assert sorted(os.listdir(shelf.place / "destination/a")) == ["1", "2", "3", "4", "5"]
    assert shelf.shown[0].lost_names == (b"/a/6",)
    shutil.rmtree(shelf.place / "destination")
    assert shelf.restore().complete
    assert sorted(os.listdir(shelf.place / "destination/a")) == ["2", "3", "4", "5"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=9, max_size=9),
    st.lists(st.integers(0, 40), max_size=3),
    st.sets(st.tuples(st.integers(0, 2), st.integers(0, 8)), max_size=4),
)
def test_restore_interrupted_anywhere_from_partly_bad_disks_brings_all_that_is_good(
    tmp_path: Path, spread_over: list[set[int]], stops: list[int], bad: set[tuple[int, int]]
) -> None:
    place = tmp_path / "case"
    shutil.rmtree(place, ignore_errors=True)
    (place / "source/below").mkdir(parents=True)
    contents = [b"%d" % number * (number + 1) * 50 for number in range(9)]
    for number, content in enumerate(contents):
        write_file(place / "source" / ("below" if number % 2 else ".") / f"{number}", content)
    os.link(place / "source/0", place / "source/below/again")
    with hand_made(place, *NAMES) as backup:
        shelf = Shelf(place, backup)
        by_content = {}
        backup.back_up(place / "source", holders=lambda number: sorted(spread_over[number % 9]))
        for disk, store in zip(backup.disks, backup.stores, strict=True):
            by_content[disk.name] = {item.read_bytes() for item in store.root.rglob("distbackup-objects/*/*")}
        shelf.settle()
        for disk, number in bad:
            if contents[number] in by_content[NAMES[disk]]:
                shelf.damage(NAMES[disk], contents[number], b"!" * len(contents[number]))
                by_content[NAMES[disk]].discard(contents[number])
        for moment in stops:
            opened = [0]

            def stop_there(_digest: bytes, moment: int = moment, opened: list[int] = opened) -> None:
                opened[0] += 1
                if opened[0] > moment:
                    shelf.stop.set()

            shelf.after_open = stop_there
            with contextlib.suppress(Interrupted):
                shelf.restore()
            shelf.stop.clear()
        shelf.after_open = lambda _digest: None
        report = shelf.restore()
        good = set().union(*by_content.values())
        expected = {number for number, content in enumerate(contents) if content in good}
        found = {path.name for path in (place / "destination").rglob("*") if path.is_file()} - {"again"}
        assert found == {str(number) for number in expected}
        assert report.complete is (len(expected) == 9)
        if report.complete:
            assert_same_tree(place / "source", place / "destination")


def test_plan_tells_how_long_a_disk_takes_that_once_took_much(shelf: Shelf, source: Path) -> None:
    spread(shelf, source, (0,), (0,), (0,), (0,), (0,), (1,))
    sessions = shelf.backup.catalogue.sessions
    for disk, copied, seconds in (("photos-01", 10**10, 100), ("photos-01", 10**10, 200), ("music-01", 10**8, 1)):
        number = sessions.start(next(known for known in shelf.backup.disks if known.name == disk), 1000)
        summary = SessionSummary(disk, 1000, 1000 + seconds, "finished", 1, copied, 0, 0, "")
        sessions.finish(number, summary)
    plan = shelf.plan()
    assert [(planned.disk.name, planned.seconds) for planned in plan.disks] == [
        ("photos-01", pytest.approx(1500 / 10**8)),
        ("music-01", None),
    ]


def test_restore_several_paths_brings_the_folders_above_them_once_with_their_times(shelf: Shelf, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("a/b/c/one", "a/b/d/two", "a/b-e/three", "a/four"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        write_file(source / name, name.encode())
    for number, name in enumerate(("a/b/c", "a/b/d", "a/b-e", "a/b", "a", "."), start=1):
        os.utime(source / name, ns=(0, number * 1_000_000_007))
    shelf.backup.back_up(source, holders=lambda number: (number % 3,))
    shelf.settle()
    report = shelf.restore(selection=Selection([b"/a/b/c", b"/a/b/d/two", b"/a/b-e", b"*/none"]))
    assert report.complete
    assert report.restored == 8  # three files and five folders
    found, wanted = describe_tree(tmp_path / "destination"), describe_tree(source)
    assert found == {path: wanted[path] for path in wanted if path != b"a/four"}


def test_plan_counts_names_of_one_file_once_also_after_some_was_restored(shelf: Shelf, source: Path) -> None:
    os.link(source / "a/1", source / "a/another name")
    os.link(source / "a/1", source / "a/third name")
    shelf.backup.back_up(source)
    shelf.settle()
    assert shelf.plan().share == Share(6, 2100)
    (shelf.place / "destination").mkdir()
    write_file(shelf.place / "destination/mine", b"not empty any more")
    assert shelf.plan().share == Share(6, 2100)
