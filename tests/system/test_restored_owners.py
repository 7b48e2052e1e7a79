"""``dsb restore`` gives files to whom they belong by name, with the accounts of this very machine."""

from __future__ import annotations

import os
import pwd
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.bed.programs import Dsb
from tests.trees import acl, write_file


@pytest.mark.needs("root")
def test_private_file_of_somebody_with_another_number_here_is_his(tmp_path: Path) -> None:
    """As on a new machine: the number that the catalogue knows him by is nobody's, or somebody else's."""
    one, other = [user for user in pwd.getpwall() if 0 < user.pw_uid < 60_000][:2]
    dsb, source = Dsb(tmp_path / "catalogue"), tmp_path / "source"
    source.mkdir()
    for name, owner in (("private", one.pw_uid), ("unknown", 54_321), ("listed", 54_321)):
        write_file(source / name, name.encode())
        os.chown(source / name, owner, 0)
        os.chmod(source / name, 0o600)
    os.setxattr(source / "listed", "system.posix_acl_access", acl(one.pw_uid))
    (tmp_path / "disk").mkdir()
    dsb.ok("source", "map", "/", source)
    dsb.ok("disk", "add", "--folder", "shelf-01", tmp_path / "disk")
    dsb.ok("backup", "-u", "shelf-01")
    with closing(sqlite3.connect(tmp_path / "catalogue/distbackup.sqlite")) as catalogue:
        names = dict(catalogue.execute("SELECT number, name FROM account WHERE NOT is_group"))
        assert names == {0: "root", one.pw_uid: one.pw_name}
        # On the machine that was backed up the number was that of somebody who has another one here.
        catalogue.execute("UPDATE account SET name = ? WHERE number = ? AND NOT is_group", (other.pw_name, one.pw_uid))
        catalogue.execute("INSERT INTO account VALUES (0, 54321, 1, 'not-known-here')")
        catalogue.commit()
        catalogue.execute("VACUUM INTO ?", (str(tmp_path / "moved.sqlite"),))
    script = [sys.executable, tmp_path / "disk/distbackup-restore.py", "--catalogue", tmp_path / "moved.sqlite"]
    for number, (command, owner) in enumerate(
        [
            (["restore", "--to"], other.pw_uid),
            (["restore", "--numeric-owner", "--to"], one.pw_uid),
            (script, other.pw_uid),
            ([*script, "--numeric-owner"], one.pw_uid),
        ]
    ):
        out = tmp_path / f"out {number}"
        if command[0] == "restore":
            done = dsb("restore", *command[1:], out)
            said = done.out + done.err
            assert done.status == 0, done
        else:
            said = subprocess.run([*command, out], capture_output=True, text=True, check=True).stdout
        assert [os.stat(out / name).st_uid for name in ("private", "unknown")] == [owner, 54_321]
        assert os.getxattr(out / "listed", "system.posix_acl_access") == acl(owner)
        unknown = "owner names that this machine does not know: not-known-here; their numbers were kept"
        assert (unknown in said) == (owner == other.pw_uid)
