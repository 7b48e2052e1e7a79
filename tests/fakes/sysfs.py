"""A sysfs of block devices, as far as hotplug reads it."""

from __future__ import annotations

from pathlib import Path

USB = "devices/usb1/block"


class FakeSysfs:
    """Devices as the kernel would list them; ``unplug`` leaves links to them behind, as it does."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._minor = 0
        for folder in ("class/block", "dev/block"):
            (root / folder).mkdir(parents=True)

    def add(self, name: str, place: str = USB, size: int = 100, dm: tuple[str, str] | None = None, **facts: str) -> str:
        self._minor += 1
        number = f"8:{self._minor}"
        entry = self._root / place / name
        for kind in ("holders", "slaves"):
            (entry / kind).mkdir(parents=True)
        told = {"dev": number, "size": str(size), "ro": "0", "uevent": f"MAJOR=8\nDEVNAME={name.replace('!', '/')}", **facts}
        for fact, text in told.items():
            (entry / fact).write_text(f"{text}\n")
        if dm:
            (entry / "dm").mkdir()
            for fact, text in zip(("name", "uuid"), dm, strict=True):
                (entry / "dm" / fact).write_text(f"{text}\n")
        for link in (f"class/block/{name}", f"dev/block/{number}"):
            (self._root / link).symlink_to(entry)
        return f"/dev/{name.replace('!', '/')}"

    def build(self, above: str, below: str) -> None:
        self._entry(below, f"holders/{above}").touch()
        self._entry(above, f"slaves/{below}").touch()

    def unplug(self, name: str) -> None:
        number = self._entry(name, "dev").read_text().strip()
        (self._root / "class/block" / name).unlink()
        (self._root / "dev/block" / number).unlink()

    def _entry(self, name: str, fact: str) -> Path:
        return self._root / "class/block" / name / fact
