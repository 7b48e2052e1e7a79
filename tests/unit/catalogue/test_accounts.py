from __future__ import annotations

import pytest

from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind
from distbackupd.model.owners import OwnerNames, OwnerNumbers
from tests.trees import acl


@pytest.fixture
def catalogue(tmp_path):
    with open_catalogue(tmp_path) as catalogue:
        yield catalogue


def record(catalogue, now, users, groups=()):
    generation = catalogue.generation()
    catalogue.accounts.record(OwnerNames(dict(users), dict(groups)), now)
    catalogue.files.commit()
    return catalogue.generation() - generation


def test_names_are_those_of_the_moment_and_before_the_first_one_that(catalogue):
    assert catalogue.accounts.names() == OwnerNames({}, {})
    assert record(catalogue, 10, {1: "anna", 2: "ben"}, {1: "staff"}) == 1
    assert record(catalogue, 20, {1: "anna"}, {1: "staff"}) == 0  # no news, no new copies on the disks
    assert record(catalogue, 30, {1: "carl"}) == 1
    assert catalogue.accounts.names() == OwnerNames({1: "carl", 2: "ben"}, {1: "staff"})
    for at, name in ((5, "anna"), (10, "anna"), (29, "anna"), (30, "carl"), (99, "carl")):
        assert catalogue.accounts.names(at).users[1] == name
    assert record(catalogue, 30, {1: "dora"}) == 1  # in the same second
    assert catalogue.accounts.names().users[1] == "dora"


def test_met_is_who_the_attributes_name_each_looked_at_once(catalogue):
    def entry(attributes):
        return Entry(b"x", EntryKind.FIFO, 0, 0, 0, 1, 1, EntryFlag.NONE, attributes, b"", 1, 0, 0)

    listed = Attributes(0o600, 5, 6, 0, ((b"system.posix_acl_access", acl(77)),))
    for attributes in (Attributes(0o600, 5, 6), Attributes(0o600, 7, 6), listed, listed):
        catalogue.files.attributes_id(entry(attributes))
    assert catalogue.accounts.met() == OwnerNumbers(frozenset({5, 7, 77}), frozenset({6}))
