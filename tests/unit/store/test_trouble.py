"""What a system error on a disk means: nothing is said of what nobody knows."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from distbackupd.model.disks import DiskIdentity
from distbackupd.model.errors import DiskReadOnly, DiskTrouble
from distbackupd.store.folder_store import FolderStore
from distbackupd.store.trouble import disk_trouble
from tests.bed.loop_disks import loop_disk, mounted_at, run


@pytest.mark.parametrize("code", sorted(errno.errorcode))
def test_disk_trouble_any_error_claims_no_untouched_disk(code: int) -> None:
    told = str(disk_trouble(OSError(code, os.strerror(code)), b"/mnt/one"))
    assert told.startswith("the ")
    assert "/mnt/one" in told
    assert "nothing" not in told, "a session may have written before that"


@pytest.mark.needs("root", "loop", "ext4")
def test_a_disk_that_turns_read_only_was_changed_if_something_was_written_before(tmp_path: Path) -> None:
    with loop_disk(tmp_path) as disk, mounted_at(disk.device, tmp_path / "mnt") as root:
        store, fresh = (FolderStore(bytes(root), "ext4") for _ in range(2))
        try:
            store.prepare()
            store.write_identity(DiskIdentity("5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11", "one"))
            run("mount", "-o", "remount,ro", root)
            for work in (
                store.prepare,
                lambda: store.write_identity(DiskIdentity("u", "two")),
                lambda: store.leave_token("t"),
            ):
                with pytest.raises(DiskTrouble) as trouble:
                    work()
                assert isinstance(trouble.value, DiskReadOnly)
                assert f"the disk at {root} is read-only; what was recorded before is safe: look for its" in str(
                    trouble.value
                )
            with pytest.raises(DiskReadOnly, match="is read-only; nothing was changed on it: look for its write-protect"):
                fresh.prepare()
        finally:
            store.close()
            fresh.close()
            subprocess.run(["mount", "-o", "remount,rw", root], capture_output=True, check=False)
