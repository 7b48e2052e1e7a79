"""Names that are one at the destination and two in the backup, on a real file system that folds case."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from distbackupd.engine.ports import TargetTrouble
from distbackupd.engine.restoration import restore
from distbackupd.engine.restore_meaning import RestoreOptions
from distbackupd.planning.selection import Selection
from distbackupd.sources.target import FolderTarget
from tests.bed.foreign_targets import foreign_folder
from tests.fakes.reporter import FakeReporter
from tests.hand_made import HandMade, hand_made
from tests.trees import write_file

folding = pytest.mark.needs("root", "loop", "mkfs.exfat", "mount.exfat-fuse")


class Folded:
    """A backup, and a place on exFAT to bring it back to."""

    def __init__(self, source: Path, backup: HandMade, destination: Path) -> None:
        self.source = source
        self.backup = backup
        self.destination = destination
        self.reporter = FakeReporter()

    def write(self, name: str, content: str) -> None:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content.encode())
        os.utime(path, ns=(0, 1_700_000_000_000_000_000))

    def back_up(self, **more) -> None:
        self.backup.back_up(self.source, **more)

    def bring_back(self, index=0, **options):
        with FolderTarget(os.fsencode(self.destination)) as target:
            return restore(
                *(self.backup.catalogue, self.backup.disks[index], self.backup.stores[index], target),
                *(RestoreOptions(**options), self.reporter, threading.Event()),
            )

    def content(self) -> dict[str, bytes]:
        found = {}
        for base, _, files in os.walk(self.destination):
            for name in files:
                found[os.path.relpath(os.path.join(base, name), self.destination)] = Path(base, name).read_bytes()
        return found

    def sentences(self) -> str:
        return "\n".join(event.sentence for event in self.reporter.events)


@pytest.fixture
def folded(tmp_path):
    with contextlib.ExitStack() as stack:
        backup = stack.enter_context(hand_made(tmp_path / "backup", "one", "two"))
        mounted = stack.enter_context(foreign_folder(tmp_path, "exfat"))
        yield Folded(tmp_path / "source", backup, mounted / "restored")


@folding
@pytest.mark.parametrize("overwrite", [False, True])
def test_restore_of_two_names_that_are_one_there_keeps_one_and_names_the_other(folded, overwrite):
    folded.write("x/README", "capital")
    folded.write("x/readme", "small l")  # as long, and as old
    folded.write("x/\xc9", "E")
    folded.write("x/\xe9", "e")
    folded.back_up()
    for _ in range(3):
        report = folded.bring_back(overwrite=overwrite)
        found = folded.content()
        assert (report.taken, report.in_the_way, report.failed_files, report.complete) == (2, 0, 0, False)
        assert len(found) == 2
        assert found in (
            {"x/README": b"capital", "x/\xc9": b"E"},
            {"x/readme": b"small l", "x/\xc9": b"E"},
            {"x/README": b"capital", "x/\xe9": b"e"},
            {"x/readme": b"small l", "x/\xe9": b"e"},
        )
        kept = {os.fsencode(f"/{name}") for name in found}
        assert {owner for _, owner in report.taken_names} == kept
        assert all(path not in kept for path, _ in report.taken_names)
    assert report.left_alone == 4  # /, /x, and what has its name
    said = folded.sentences()
    assert "/x/readme: not possible here, the destination takes its name for that of /x/README, which stays" in said or (
        "/x/README: not possible here, the destination takes its name for that of /x/readme, which stays" in said
    )
    assert "2 entries are not possible here" in said


@folding
def test_restore_of_each_twin_alone_in_turn_never_replaces_the_first(folded):
    folded.write("x/README", "capital")
    folded.write("x/readme", "small l")
    folded.back_up()
    assert folded.bring_back(selection=Selection([b"/x/readme"])).complete
    report = folded.bring_back(selection=Selection([b"/x/README"]), overwrite=True)
    assert report.taken_names == ((b"/x/README", b"/x/readme"),)
    assert folded.content() == {"x/readme": b"small l"}
    assert folded.bring_back(selection=Selection([b"/x/readme"]), overwrite=True).complete


@folding
def test_restore_of_twins_from_two_disks_keeps_what_came_first(folded):
    folded.write("README", "capital")
    folded.write("readme", "small l")
    folded.back_up(holders=lambda number: (number,))
    assert folded.bring_back(1).missing_files == 1
    again = folded.bring_back(1)  # what the other disk holds is not possible now, so nobody is asked for it
    assert (again.taken, again.missing_files) == (1, 0)
    report = folded.bring_back(0)
    assert (report.taken_names, report.missing_files) == (((b"/README", b"/readme"),), 0)
    assert folded.content() == {"readme": b"small l"}


@folding
def test_restore_of_folders_that_are_one_there_does_not_mix_them(folded):
    folded.write("A/one", "1")
    folded.write("A/below/two", "2")
    folded.write("a/one", "3")
    folded.write("a/below/four", "4")
    folded.write("b/five", "5")
    folded.write("B", "a file")
    folded.back_up()
    for _ in range(2):
        report = folded.bring_back()
        assert report.taken == 5
        assert set(report.taken_names) == {
            *((path, b"/A") for path in (b"/a", b"/a/one", b"/a/below", b"/a/below/four")),
            *({(b"/b", b"/B"), (b"/b/five", b"/B")} & set(report.taken_names) or {(b"/B", b"/b")}),
        }
        found = folded.content()
        assert {name: content for name, content in found.items() if name[0] == "A"} == {"A/one": b"1", "A/below/two": b"2"}
    assert (
        "/a/one: not possible here, the destination takes the name of /a for that of /A, which stays" in folded.sentences()
    )


@folding
def test_restore_over_a_file_of_somebody_whose_name_differs_in_case_goes_by_its_content(folded):
    folded.write("Notes", "mine")
    folded.back_up()
    folded.destination.mkdir()
    (folded.destination / "NOTES").write_bytes(b"somebody's")
    report = folded.bring_back()
    assert (report.in_the_way, report.taken) == (1, 0)
    assert folded.content() == {"NOTES": b"somebody's"}


@folding
def test_restore_twins_of_links_and_of_what_cannot_be_kept_there(folded):
    folded.write("file", "content")
    os.link(folded.source / "file", folded.source / "FILE")
    os.symlink("file", folded.source / "link")
    os.mkfifo(folded.source / "fifo")
    os.mknod(folded.source / "null", 0o600 | 0o020000, os.makedev(1, 3))
    folded.back_up()
    for _ in range(2):
        report = folded.bring_back()
        assert report.taken == 1
        assert report.not_kept.items() >= {"fifo": 1, "device node": 1, "symbolic link": 1}.items()
        assert folded.content() in ({"file": b"content"}, {"FILE": b"content"})
    assert "cannot keep" not in folded.sentences()


@folding
def test_restore_leaves_out_only_what_is_present_elsewhere_under_just_its_name(folded):
    folded.write("README", "capital")
    folded.write("readme", "small l")
    folded.write("a/one", "1")
    folded.back_up()
    elsewhere = folded.destination.parent / "elsewhere"
    (elsewhere / "A").mkdir(parents=True)
    write_file(elsewhere / "README", b"capital")
    write_file(elsewhere / "A/one", b"1")
    assert folded.bring_back(existing=(os.fsencode(elsewhere),)).complete
    assert folded.content() == {"readme": b"small l", "a/one": b"1"}


@folding
def test_restore_names_that_the_destination_cannot_have_are_listed_and_the_rest_comes(folded):
    for name in ("what?", "plain", "a:b/below"):
        folded.write(name, name)
    write_file(os.fsencode(folded.source) + b"/\xff\xfe", b"no UTF-8")
    folded.back_up()
    report = folded.bring_back()
    assert folded.content() == {"plain": b"plain"}
    assert all("the destination may not take such a name" in reason for _, reason in report.failed)
    assert {path for path, _ in report.failed} == {b"/what?", b"/a:b", b"/a:b/below", b"/\xff\xfe"}


def test_restore_one_file_that_gives_an_error_of_the_medium_is_one_file(tmp_path, monkeypatch):
    """The destination answers to a plain write of its own, so it is not dead."""
    with hand_made(tmp_path) as backup:
        (tmp_path / "source").mkdir()
        for name in ("bad", "good"):
            write_file(tmp_path / "source" / name, name.encode())
        backup.back_up(tmp_path / "source")
        rename, dead = os.rename, []

        def rename_or_not(source, name, **more):
            if name == b"bad" or dead:
                raise OSError(5, "Input/output error")
            rename(source, name, **more)

        monkeypatch.setattr(os, "rename", rename_or_not)
        words = (backup.catalogue, backup.disks[0], backup.stores[0])
        with FolderTarget(os.fsencode(tmp_path / "out")) as target:
            report = restore(*words, target, RestoreOptions(), FakeReporter(), threading.Event())
        assert [path for path, _ in report.failed] == [b"/bad"]
        assert (tmp_path / "out/good").read_bytes() == b"good"
        monkeypatch.setattr("distbackupd.sources.target.answers", lambda *words: False)
        with FolderTarget(os.fsencode(tmp_path / "out")) as target, pytest.raises(TargetTrouble, match="cannot be written"):
            restore(*words, target, RestoreOptions(), FakeReporter(), threading.Event())
