from __future__ import annotations

from pathlib import Path

from distbackupd.agent.memory import Memory, state_folder


def test_keep_is_known_to_the_next_login(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert Memory(folder).last is None
    Memory(folder).keep(1_700_000_000_000_000)
    assert Memory(folder).last == 1_700_000_000_000_000
    assert [path.name for path in folder.iterdir()] == ["last-event"]


def test_keep_a_lower_number_after_the_clock_was_set_back(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.keep(9)
    memory.keep(3)
    assert (memory.last, Memory(tmp_path).last) == (3, 3)


def test_what_a_process_that_died_was_writing_is_gone_at_the_next_login(tmp_path: Path) -> None:
    Memory(tmp_path).keep(9)
    (tmp_path / "last-event.new").write_text("1")
    assert Memory(tmp_path).last == 9
    assert [path.name for path in tmp_path.iterdir()] == ["last-event"]


def test_last_of_a_damaged_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "last-event").write_bytes(b"\xff\x00 no number")
    assert Memory(tmp_path).last is None


def test_keep_where_nothing_can_be_written_is_known_until_the_end(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    memory = Memory(tmp_path / "a-file" / "below")
    memory.keep(7)
    assert memory.last == 7


def test_state_folder_ignores_a_relative_path() -> None:
    assert state_folder({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/distbackup")
    assert state_folder({"XDG_STATE_HOME": "s", "HOME": "/h"}) == Path("/h/.local/state/distbackup")
    assert state_folder({"HOME": "/h"}) == Path("/h/.local/state/distbackup")
