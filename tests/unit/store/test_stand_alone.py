from __future__ import annotations

import ast
import functools
import os
import random
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import pytest

from distbackupd.catalogue import schema
from distbackupd.store.stand_alone import readme, restore_script
from tests.bed.old_catalogues import write_as_version
from tests.bed.programs import NOBODY
from tests.hand_made import hand_made
from tests.trees import assert_same_tree, build_nasty_tree, describe_tree, write_file

PYTHON = shutil.which("python3", path="/usr/bin:/bin") or "/usr/bin/python3"
COLUMNS = (
    "folder, name, kind, size, mtime_ns, device, inode, flags, attributes, target, priority, maxcopies, object, seen, gone"
)


@pytest.fixture
def backup(tmp_path):
    with hand_made(tmp_path, "photos-01", "music-01") as backup:
        yield backup


@pytest.fixture
def run_script(tmp_path):
    """Run the script as it lies on the disk of this name."""

    def run_script(disk, *words, code=0, python=PYTHON, **more):
        script = tmp_path / disk / "distbackup-restore.py"
        if not script.exists():
            script.write_bytes(restore_script())
        command = [python, script, *words]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60, **more)
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return run_script


@pytest.fixture
def source(tmp_path):
    source = tmp_path / "source"
    for name in ("a/one", "a/two", "b/three"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        write_file(source / name, f"content of {name}".encode())
    os.chmod(source / "a", 0o2751)
    os.utime(source / "a", ns=(1, 123_456_789))
    return source


def change(disk, *statements):
    with sqlite3.connect(disk / "distbackup.sqlite") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_restore_script_is_python_3_8_and_needs_the_standard_library_only():
    tree = ast.parse(restore_script(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imported <= {
        *("argparse", "collections", "contextlib", "ctypes", "datetime", "errno", "fcntl", "fnmatch", "functools", "grp"),
        *("hashlib", "os", "pathlib", "pwd", "re", "sqlite3", "stat", "struct", "sys", "time", "unicodedata"),
    }


def test_restore_script_knows_the_catalogue_it_is_written_for():
    assert f"0x{schema.APPLICATION_ID:x}".encode() in restore_script()


@pytest.mark.needs("root")  # only root reads all of the tree
def test_restore_script_nasty_tree_gives_the_same_tree_and_leaves_the_disk_as_it_was(backup, run_script, tmp_path):
    build_nasty_tree(tmp_path / "source")
    backup.back_up(tmp_path / "source")
    backup.put_catalogues()
    run_script("photos-01", "--help")
    before = describe_tree(tmp_path / "photos-01")
    assert "0 were right already" not in run_script("photos-01", tmp_path / "destination")
    assert_same_tree(tmp_path / "source", tmp_path / "destination")
    assert run_script("photos-01", tmp_path / "destination").startswith("0 restored")
    assert_same_tree(tmp_path / "source", tmp_path / "destination")
    assert describe_tree(tmp_path / "photos-01") == before


@pytest.mark.needs("root")  # only root reads all of the tree
def test_restore_script_runs_on_every_python_here(backup, run_script, tmp_path):
    build_nasty_tree(tmp_path / "source", deep=False)
    backup.back_up(tmp_path / "source")
    backup.put_catalogues()
    others = [found for minor in range(8, 20) if (found := shutil.which(f"python3.{minor}"))]
    # Some stand for a version that is not there.
    working = [
        python for python in others if subprocess.run([python, "-c", "0"], capture_output=True, check=False).stderr == b""
    ]
    for number, python in enumerate([sys.executable, *working]):
        run_script("photos-01", tmp_path / f"destination {number}", python=python)
        assert_same_tree(tmp_path / "source", tmp_path / f"destination {number}")


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_restore_script_reads_a_catalogue_of_every_version(backup, run_script, source, tmp_path, version):
    """A disk that was not plugged in for years carries an old one."""
    backup.back_up(source)
    write_as_version(tmp_path / "catalogue/distbackup.sqlite", tmp_path / "photos-01/distbackup.sqlite", version)
    run_script("photos-01", tmp_path / "destination")
    assert_same_tree(source, tmp_path / "destination")


def test_restore_script_as_it_was_at_a_date(backup, run_script, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    november = int(datetime(2026, 11, 2, 12).timestamp())
    change(
        tmp_path / "photos-01",
        f"UPDATE file SET gone = {november} WHERE name IN (CAST('one' AS BLOB), CAST('three' AS BLOB))",
        f"INSERT INTO file ({COLUMNS}) SELECT folder, CAST('one' AS BLOB), kind, size, mtime_ns, device, 0, flags, "
        f"attributes, target, priority, maxcopies, object, {november}, 0 FROM file WHERE name = CAST('two' AS BLOB)",
    )
    run_script("photos-01", tmp_path / "now")
    assert set(describe_tree(tmp_path / "now")) == {b"", b"a", b"a/one", b"a/two", b"b"}
    assert (tmp_path / "now/a/one").read_bytes() == b"content of a/two"
    run_script("photos-01", "--at", "2026-11-01", tmp_path / "then")
    assert_same_tree(source, tmp_path / "then")
    run_script("photos-01", "--at", "2026-11-02", tmp_path / "day")
    assert set(describe_tree(tmp_path / "day")) == set(describe_tree(tmp_path / "now"))
    assert "/b/three" in run_script("photos-01", "--list", "--at", "2026-11-02 11:59")
    assert "/b/three" not in run_script("photos-01", "--list", "--at", "2026-11-02 12:00")
    assert "usage:" in run_script("photos-01", "--at", "yesterday", tmp_path / "never", code=2)


def test_restore_script_with_the_catalogue_of_another_disk(backup, run_script, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    write_file(tmp_path / "photos-01/distbackup.sqlite", b"damaged" * 1000)
    assert "use another disk's with --catalogue" in run_script("photos-01", tmp_path / "destination", code=2)
    run_script("photos-01", "--catalogue", tmp_path / "music-01/distbackup.sqlite", tmp_path / "destination")
    assert_same_tree(source, tmp_path / "destination")


@pytest.mark.needs("root")  # only root reads all of the tree
def test_restore_script_disk_by_disk_names_the_next_and_gives_the_same_tree(backup, run_script, tmp_path):
    build_nasty_tree(tmp_path / "source", deep=False)
    backup.back_up(tmp_path / "source", holders=lambda number: (number % 2,))
    backup.put_catalogues()
    said = run_script("photos-01", tmp_path / "destination", code=3)
    assert re.search(r"^    music-01 +holds \d+ of them$", said, re.MULTILINE)
    run_script("music-01", tmp_path / "destination")
    assert_same_tree(tmp_path / "source", tmp_path / "destination")


def test_restore_script_other_disk_by_option_is_read(backup, run_script, source, tmp_path):
    backup.back_up(source, holders=lambda number: (1,))
    backup.put_catalogues()
    run_script("photos-01", "--disk", tmp_path / "music-01", tmp_path / "destination")
    assert_same_tree(source, tmp_path / "destination")


def test_restore_script_pattern_brings_what_it_means_with_the_folders_above(backup, run_script, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    run_script("photos-01", tmp_path / "destination", "*/one")
    found, wanted = describe_tree(tmp_path / "destination"), describe_tree(source)
    assert set(found) == {b"", b"a", b"a/one"}
    assert found[b"a"] == wanted[b"a"]
    run_script("photos-01", tmp_path / "destination", "/b")
    assert b"b/three" in describe_tree(tmp_path / "destination")


def test_restore_script_list_names_paths_and_disks_and_writes_nothing(backup, run_script, source, tmp_path):
    write_file(source / "line\nbreak", b"x")
    backup.back_up(source, holders=lambda number: (0, 1))
    backup.put_catalogues()
    said = run_script("photos-01", "--list")
    assert re.search(r"^- +16  music-01,photos-01    /a/one$", said, re.MULTILINE)
    assert r"/line\nbreak" in said
    assert "/b/three" not in run_script("photos-01", "--list", "/a")
    assert sorted(os.listdir(tmp_path)) == ["catalogue", "music-01", "photos-01", "source"]


def test_restore_script_damaged_object_is_not_restored_and_told(backup, run_script, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    backup.stores[0].path(backup.stores[0].add(b"content of a/one")).write_bytes(b"content of a/0ne")
    said = run_script("photos-01", tmp_path / "destination", code=3)
    assert "/a/one: not restored: its object on this disk is damaged" in said
    assert os.listdir(tmp_path / "destination/a") == ["two"]


@pytest.mark.parametrize("harm", ["truncated", "longer", "another's content", "a folder", "a link"])
def test_restore_script_object_that_is_not_what_its_name_says(backup, run_script, source, tmp_path, harm):
    backup.back_up(source)
    backup.put_catalogues()
    store = backup.stores[0]
    one, two = (store.path(store.add(b"content of " + name)) for name in (b"a/one", b"a/two"))
    if harm == "truncated":
        os.truncate(one, 5)
    elif harm == "longer":
        one.write_bytes(one.read_bytes() + b"\0")
    else:
        one.unlink()
        if harm == "another's content":
            shutil.copy(two, one)
        elif harm == "a folder":
            one.mkdir()
        else:
            one.symlink_to("/etc/passwd")
    said = run_script("photos-01", tmp_path / "destination", code=3)
    assert "/a/one: not restored: its object on this disk" in said
    assert os.listdir(tmp_path / "destination/a") == ["two"]


@pytest.mark.parametrize("seed", range(12))
def test_restore_script_bits_flipped_in_the_catalogue_never_harm_what_is_outside(backup, run_script, source, tmp_path, seed):
    backup.back_up(source)
    backup.put_catalogues()
    path = tmp_path / "photos-01/distbackup.sqlite"
    content, dice = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(40):
        content[dice.randrange(100, len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    before = describe_tree(source), path.read_bytes(), set(os.listdir(tmp_path))
    script = tmp_path / "photos-01/distbackup-restore.py"
    script.write_bytes(restore_script())
    done = subprocess.run([PYTHON, script, tmp_path / "destination"], capture_output=True, timeout=60, check=False)
    assert done.returncode in (0, 2, 3), done
    assert b"Traceback" not in done.stderr, done
    assert (describe_tree(source), path.read_bytes(), set(os.listdir(tmp_path)) - {"destination"}) == before
    if (tmp_path / "destination").exists():
        restored = {described[8] for described in describe_tree(tmp_path / "destination").values()}
        assert restored <= {b"", *(b"content of " + name for name in (b"a/one", b"a/two", b"b/three"))}


def test_restore_script_file_in_the_way_stays_unless_overwritten(backup, run_script, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    (tmp_path / "destination/a").mkdir(parents=True)
    write_file(tmp_path / "destination/a/one", b"mine")
    (tmp_path / "destination/b").symlink_to(tmp_path / "source")
    said = run_script("photos-01", tmp_path / "destination", code=3)
    assert "3 not restored because something else is in place" in said
    assert (tmp_path / "destination/a/one").read_bytes() == b"mine"
    assert not (source / "three").exists()
    (tmp_path / "destination/b").unlink()
    run_script("photos-01", tmp_path / "destination", "--overwrite")
    assert (tmp_path / "destination/a/one").read_bytes() == b"content of a/one"


def test_restore_script_catalogue_full_of_traps_stays_inside(backup, run_script, source, tmp_path):
    backup.back_up(source)
    os.symlink(tmp_path, source / "b/out")
    backup.put_catalogues()
    (tmp_path / "destination").mkdir()
    (tmp_path / "destination/b").mkdir()
    (tmp_path / "destination/b/out").symlink_to(tmp_path)
    change(
        tmp_path / "photos-01",
        "UPDATE file SET name = CAST('../../passwd' AS BLOB) WHERE name = CAST('one' AS BLOB)",
        "UPDATE file SET name = x'2e2e' WHERE name = CAST('two' AS BLOB)",
        "UPDATE folder SET path = CAST('/b/out' AS BLOB) WHERE path = CAST('/b' AS BLOB)",
        "INSERT INTO folder (path) VALUES (CAST('/../../etc' AS BLOB)), (CAST('relative/../..' AS BLOB))",
        f"INSERT INTO file ({COLUMNS}) SELECT f.id, CAST('passwd' AS BLOB), 0, 0, 0, 1, 5, 0, 1, x'', 1, 0, NULL, 1, 0 "
        "FROM folder AS f WHERE CAST(path AS TEXT) LIKE '%..%'",
        f"INSERT INTO file ({COLUMNS}) SELECT f.id, x'', 1, 0, 0, 1, 5, 0, 1, x'', 1, 0, NULL, 1, 0 "
        "FROM folder AS f WHERE CAST(path AS TEXT) LIKE '%..%'",
    )
    before = set(os.listdir(tmp_path))
    said = run_script("photos-01", tmp_path / "destination", code=3)
    assert said.count("could lead outside the destination") >= 4
    assert "/b/out/three: not restored: something else is in place" in said
    assert set(os.listdir(tmp_path)) == before
    assert sorted(describe_tree(tmp_path / "destination")) == [b"", b"a", b"b", b"b/out"]


def test_restore_script_without_or_with_a_foreign_catalogue_says_so(run_script, tmp_path):
    (tmp_path / "photos-01").mkdir()
    assert "there is no /" in run_script("photos-01", tmp_path / "destination", code=2)
    write_file(tmp_path / "photos-01/distbackup.sqlite", b"no database at all" * 100)
    assert "damaged" in run_script("photos-01", tmp_path / "destination", code=2)
    (tmp_path / "photos-01/distbackup.sqlite").unlink()
    change(tmp_path / "photos-01", "CREATE TABLE file_tree (virtual_path TEXT)")
    assert "is no catalogue of distbackupd" in run_script("photos-01", tmp_path / "destination", code=2)
    assert not (tmp_path / "destination").exists()


def test_restore_script_wrong_words_say_how_it_is_used(backup, run_script, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    assert "usage:" in run_script("photos-01", code=2)
    assert "usage:" in run_script("photos-01", "a", "b", "c", code=2)
    assert "lies on the backup disk" in run_script("photos-01", tmp_path / "photos-01/here", code=2)
    write_file(tmp_path / "file", b"")
    assert "cannot be used" in run_script("photos-01", tmp_path / "file", code=2)


@pytest.mark.needs("root")
def test_restore_script_as_ordinary_user_restores_and_tells_what_it_cannot_keep(backup, run_script, source, tmp_path):
    os.chmod(source / "a/two", 0o4755)
    os.mknod(source / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    backup.back_up(source)
    backup.put_catalogues()
    # Others may not pass through the folders above tmp_path.
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        shutil.copytree(tmp_path / "photos-01", f"{place}/disk")
        write_file(f"{place}/disk/distbackup-restore.py", restore_script())
        subprocess.run(["chmod", "-R", "a+rX", f"{place}/disk"], check=True)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        script = [PYTHON, f"{place}/disk/distbackup-restore.py", f"{place}/destination"]
        done = subprocess.run([*nobody, *script], capture_output=True, check=False, timeout=60)
        restored = describe_tree(Path(place) / "destination")
    said = done.stdout.decode()
    assert "the destination could not keep: device node (1), mode (2), owner (" in said, done
    assert done.returncode == 0
    assert restored[b"a/two"][1] == 0o755
    assert b"content of a/one" in restored[b"a/one"]


def test_readme_names_the_disk_and_its_query_finds_the_objects(backup, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    text = readme("photos-01", "1234-uuid", "2026-11-22 20:15")
    assert 'This is "photos-01"' in text
    assert "1234-uuid" in text
    assert "2026-11-22 20:15" in text
    assert all(len(line) < 80 for line in text.splitlines())
    query = re.search(r'immutable=1\' "\n(.*?)"\n', text, re.DOTALL).group(1)
    connection = sqlite3.connect(tmp_path / "photos-01/distbackup.sqlite")
    found = {path: (tmp_path / "photos-01" / name).read_bytes() for name, path in connection.execute(query)}
    connection.close()
    assert found == {f"/{name}": f"content of {name}".encode() for name in ("a/one", "a/two", "b/three")}


# --- disks of somebody who wishes us ill ---


@pytest.mark.parametrize(
    "change_to",
    [
        "UPDATE file SET name = CAST('../../evil' AS BLOB) WHERE CAST(name AS TEXT) = 'one'",
        "UPDATE file SET name = X'6F6E6500' WHERE CAST(name AS TEXT) = 'one'",
        "UPDATE file SET size = -1 WHERE CAST(name AS TEXT) = 'one'",
        "UPDATE file SET kind = 9 WHERE CAST(name AS TEXT) = 'one'",
        "UPDATE file SET flags = -1 WHERE CAST(name AS TEXT) = 'one'",
        (
            "INSERT INTO attributes (id, mode, uid, gid, rdev, xattrs, xattrs_hash) VALUES (99, 1048576, 0, 0, 0, X'', X'');"
            "UPDATE file SET attributes = 99 WHERE CAST(name AS TEXT) = 'one'"
        ),
        (
            "INSERT INTO attributes (id, mode, uid, gid, rdev, xattrs, xattrs_hash) "
            "VALUES (99, 420, -1, 4294967295, 0, X'', X'');"
            "UPDATE file SET attributes = 99 WHERE CAST(name AS TEXT) = 'one'"
        ),
    ],
)
def test_restore_script_entry_that_cannot_be_is_refused_alone(backup, run_script, source, tmp_path, change_to):
    backup.back_up(source)
    backup.put_catalogues()
    change(tmp_path / "photos-01", *change_to.split(";"))
    said = run_script("photos-01", tmp_path / "out" / "inner", code=3)
    assert "not restored" in said
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "out/evil").exists()
    assert (tmp_path / "out/inner/a/two").read_bytes() == b"content of a/two"
    assert not (tmp_path / "out/inner/a/one").exists()


def test_restore_script_catalogue_that_computes_is_refused(backup, run_script, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, X'2F' AS path FROM n"
    change(tmp_path / "photos-01", "ALTER TABLE folder RENAME TO real", f"CREATE VIEW folder AS {endless}")
    assert "is damaged, use another disk's with --catalogue" in run_script("photos-01", tmp_path / "out", code=2)


@pytest.mark.parametrize("what", ["fifo", "folder", "link"])
def test_restore_script_thing_in_the_catalogues_place_is_none(backup, run_script, tmp_path, what):
    backup.put_catalogues()
    (tmp_path / "disk").mkdir()
    path = tmp_path / "disk/distbackup.sqlite"
    {"fifo": os.mkfifo, "folder": os.mkdir}.get(
        what, functools.partial(os.symlink, tmp_path / "photos-01/distbackup.sqlite")
    )(path)
    assert "there is no" in run_script("disk", tmp_path / "out", code=2)


def test_restore_script_objects_are_not_taken_through_links(backup, run_script, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    objects = tmp_path / "photos-01/distbackup-objects"
    objects.rename(tmp_path / "elsewhere")
    objects.symlink_to(tmp_path / "elsewhere")
    said = run_script("photos-01", tmp_path / "out", code=3)
    assert "its object on this disk cannot be opened" in said
    assert not list((tmp_path / "out/a").iterdir())


def test_restore_script_names_of_disks_cannot_speak_to_the_terminal(backup, run_script, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    change(tmp_path / "photos-01", "UPDATE disk SET name = id || 'evil' || char(27) || '[2J'")
    assert "\x1b" not in run_script("photos-01", "--list") + run_script("photos-01", tmp_path / "out")


@pytest.mark.needs("root")
def test_restore_script_disk_that_only_root_may_read_says_so(backup, source, tmp_path):
    backup.back_up(source)
    backup.put_catalogues()
    script = tmp_path / "photos-01/distbackup-restore.py"
    script.write_bytes(restore_script())
    open_place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        open_place.chmod(0o755)
        shutil.copytree(tmp_path / "photos-01", open_place / "disk")
        (open_place / "disk").chmod(0o755)
        out = open_place / "out"
        out.mkdir()
        os.chown(out, NOBODY, NOBODY)
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", PYTHON]
        for closed in ("distbackup-objects", "distbackup.sqlite"):
            (open_place / "disk" / closed).chmod(0)
            words = [*command, open_place / "disk/distbackup-restore.py", out]
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
            assert "for root to read: run this as root" in done.stderr
    finally:
        shutil.rmtree(open_place)
