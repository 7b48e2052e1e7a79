"""Owners are recorded and given back by name."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from distbackupd.engine.restoration import restore
from distbackupd.engine.restore_meaning import RestoreOptions
from distbackupd.sources.target import FolderTarget
from tests.fakes.accounts import FakeAccounts
from tests.fakes.reporter import FakeReporter
from tests.trees import acl
from tests.unit.engine.scenes import NEVER, scene_at

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def scene(tmp_path):
    with scene_at(tmp_path) as scene:
        scene.accounts = FakeAccounts({"anna": 5001, "carl": 5003}, {"staff": 6001})
        scene.bench = replace(scene.bench, accounts=scene.accounts)
        scene.disk = scene.add_disk("photos-01")
        yield scene


def bring_back(scene, machine, at=None):
    """Restore on this machine; who has what: (uid, gid), and the access list of ``/listed``."""
    reporter = FakeReporter()
    out = scene.place / f"out {len(os.listdir(scene.place))}"
    with FolderTarget(os.fsencode(out)) as target:
        report = restore(
            *(scene.catalogue, scene.disk, scene.store(scene.disk), target),
            *(RestoreOptions(at=at, accounts=machine), reporter, NEVER),
        )
    assert report.complete
    owners = {name: (os.lstat(out / name).st_uid, os.lstat(out / name).st_gid) for name in sorted(os.listdir(out))}
    return owners, report, "\n".join(event.sentence for event in reporter.events)


def own(scene, name, uid, gid):
    path = scene.write(name)
    os.chown(path, uid, gid)
    return path


def test_restore_gives_what_belongs_to_a_name_to_that_name(scene):
    own(scene, "file", 5001, 6001)
    own(scene, "nameless", 5009, 6009)
    os.setxattr(own(scene, "listed", 5001, 6001), "system.posix_acl_access", acl(5003))
    os.symlink("file", scene.real / "link")
    os.chown(scene.real / "link", 5001, 6001, follow_symlinks=False)
    scene.scan()
    scene.back_up(scene.disk)
    machine = FakeAccounts({"anna": 5002, "carl": 5004, "somebody": 5001}, {"staff": 6002})
    owners, report, said = bring_back(scene, machine)
    assert owners == {"file": (5002, 6002), "link": (5002, 6002), "listed": (5002, 6002), "nameless": (5009, 6009)}
    assert "owner names" not in said
    (listed,) = scene.place.glob("out*/listed")
    assert os.getxattr(listed, "system.posix_acl_access") == acl(5004)
    assert machine.asked <= 4  # once for each name, however many files there are
    owners, report, said = bring_back(scene, FakeAccounts({"anna": 5002}))
    assert owners["file"] == (5002, 6001)
    assert report.unknown_owners == ("carl", "staff")
    assert said.count("owner names that this machine does not know: carl and staff; their numbers were kept") == 1
    assert bring_back(scene, None)[0]["file"] == (5001, 6001)


def test_restore_at_a_date_goes_by_the_names_of_that_date(scene):
    own(scene, "file", 5001, 6001)
    scene.scan()
    then = scene.clock.now()
    scene.back_up(scene.disk)
    scene.clock.pass_time(1000)
    scene.accounts.users = {"ben": 5001}
    scene.scan()
    machine = FakeAccounts({"anna": 1, "ben": 2}, {"staff": 6001})
    assert bring_back(scene, machine)[0]["file"] == (2, 6001)
    assert bring_back(scene, machine, at=then)[0]["file"] == (1, 6001)


def test_scan_that_finds_nothing_new_records_nothing_and_one_that_only_looks_neither(scene):
    own(scene, "file", 5001, 6001)
    scene.scan(simulate=True)
    assert scene.catalogue.accounts.names().users == {}
    scene.scan()
    assert scene.catalogue.accounts.names().users[5001] == "anna"
    generation = scene.catalogue.generation()
    scene.scan()
    assert scene.catalogue.generation() == generation
    scene.accounts.users = {}  # the directory server is away, or the account is gone: the last name stays
    scene.scan()
    assert scene.catalogue.accounts.names().users[5001] == "anna"
