"""A source, a catalogue and disks that are folders, which lose their catalogue and get it back."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.bed.programs import Dsb


class Shelf:
    """A source, a catalogue and disks in folders beside it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.source = place / "source"
        self.source.mkdir()
        self.dsb = Dsb(place / "catalogue")
        self.dsb.ok("source", "map", "/", self.source)

    def write(self, name: str, content: str = "") -> None:
        (self.source / name).write_text(content or f"content of {name}")

    def disk(self, name: str) -> Path:
        return self.place / name

    def back_up(self, *names: str) -> None:
        for name in names:
            if not self.disk(name).exists():
                self.disk(name).mkdir()
                self.dsb.ok("disk", "add", name, self.disk(name), "--folder")
            self.dsb.ok("backup", name, "-u")

    def lose_catalogue(self) -> None:
        shutil.rmtree(self.dsb.folder)

    def recover(self, *names: str, options: tuple[str, ...] = ()) -> str:
        return self.dsb.ok("recover", "--yes", *(self.disk(name) for name in names), *options)

    def copy_on(self, name: str) -> Path:
        return self.disk(name) / "distbackup.sqlite"

    def held_by(self, path: str) -> str:
        """The column of ``dsb ls`` that names the disks."""
        (line,) = self.dsb.ok("ls", path).splitlines()
        return line[line.index("(") + 1 : line.index(")")]
