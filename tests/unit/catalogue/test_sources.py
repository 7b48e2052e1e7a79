"""What is mapped and set."""

from __future__ import annotations

from pathlib import Path

import pytest

from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.model.sources import FolderSettings, Source

STRANGE = b"/\xff\xfe line\nbreak/" + b"n" * 255


def test_map_comes_back_by_virtual_path_and_can_be_mapped_anew(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        for source in (Source(b"/z", b"/real/z"), Source(STRANGE, STRANGE * 20), Source(b"/z", b"/other")):
            catalogue.sources.map(source)
    with open_catalogue(tmp_path) as catalogue:
        assert catalogue.sources.all() == [Source(b"/z", b"/other"), Source(STRANGE, STRANGE * 20)]
        assert catalogue.sources.unmap(STRANGE)
        assert not catalogue.sources.unmap(STRANGE)
        assert [source.virtual_path for source in catalogue.sources.all()] == [b"/z"]


@pytest.mark.parametrize(
    "settings",
    [
        FolderSettings(lock=True),
        FolderSettings(True, True, True, True, 3, 2, ("!a", "*.tmp", "/^ä\udcff", "line\nbreak")),
        FolderSettings(rules=("",)),
    ],
)
def test_set_settings_comes_back(tmp_path: Path, settings: FolderSettings) -> None:
    with open_catalogue(tmp_path) as catalogue:
        catalogue.sources.set_settings(STRANGE, settings)
        assert catalogue.sources.settings() == {STRANGE: settings}
    with open_catalogue(tmp_path, read_only=True) as catalogue:
        assert catalogue.sources.settings() == {STRANGE: settings}


def test_set_settings_default_clears(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        catalogue.sources.set_settings(b"/a", FolderSettings(lock=True))
        catalogue.sources.set_settings(b"/a", FolderSettings())
        assert catalogue.sources.settings() == {}
