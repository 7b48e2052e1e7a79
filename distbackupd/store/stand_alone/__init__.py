"""What each backup disk carries so that it can be restored with none of our software: a script and a plain text.

``restore_script.py`` is copied as it is, as ``distbackup-restore.py``; ``README.txt`` with the disk's name filled in.
"""

from __future__ import annotations

from importlib.resources import files


def restore_script() -> bytes:
    """The restore script: one file, which needs nothing but python3 (3.8 or newer)."""
    return files(__name__).joinpath("restore_script.py").read_bytes()


def readme(name: str, uuid: str, written: str) -> str:
    """The text for the disk of this name. ``written``: when, in words."""
    return files(__name__).joinpath("README.txt").read_text("utf-8").format(name=name, uuid=uuid, written=written)
