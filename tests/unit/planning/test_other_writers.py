from __future__ import annotations

import pytest

from distbackupd.planning.other_writers import Level, Writer, other_writer

FINE = Level(b"/", 0, 0, 0o755)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Level(b"/a", 0, 0, 0o755), None),
        (Level(b"/a", 7, 7, 0o700), None),
        (Level(b"/a", 8, 8, 0o700), Writer.OWNER),
        (Level(b"/a", 0, 0, 0o777), Writer.EVERYBODY),
        (Level(b"/a", 0, 0, 0o1777), None),
        (Level(b"/a", 0, 50, 0o775), Writer.GROUP),
        (Level(b"/a", 0, 60, 0o775), None),
        (Level(b"/a/b", 0, 0, 0o1777), Writer.EVERYBODY),
        (Level(b"/a/b", 0, 50, 0o1770), Writer.GROUP),
    ],
)
def test_other_writer_is_the_first_who_may_rename_things_on_the_way(level: Level, expected: Writer | None) -> None:
    found = other_writer([FINE, level], b"/a/b", 7, lambda gid: gid == 50)
    assert found == (None if expected is None else (level, expected))
