from __future__ import annotations

import grp
import pwd
import threading

import pytest

from distbackupd.model.owners import OwnerNames, OwnerNumbers
from distbackupd.sources.accounts import SystemAccounts

NOBODY = OwnerNumbers(frozenset({0, 4_000_000_001}), frozenset({0, 4_000_000_001}))


def test_accounts_of_this_machine_have_names_and_numbers():
    accounts = SystemAccounts()
    assert accounts.names(NOBODY) == OwnerNames({0: "root"}, {0: grp.getgrgid(0).gr_name})
    assert accounts.user("root") == accounts.group(grp.getgrgid(0).gr_name) == 0
    assert accounts.user("no such user") is accounts.group("no such group") is None


def test_accounts_are_asked_for_once_and_then_kept_for_a_while(monkeypatch):
    asked = []

    def getpwuid(number):
        asked.append(number)
        return pwd.struct_passwd(("anna", "x", number, number, "", "/", "/"))

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    accounts = SystemAccounts()
    for _ in range(3):
        assert accounts.names(OwnerNumbers(frozenset({7}))).users == {7: "anna"}
    assert asked == [7]


def test_accounts_of_a_directory_that_does_not_answer_cost_one_short_wait_and_are_no_news(monkeypatch):
    answer = threading.Event()

    def getpwuid(number):
        if number == 2:
            answer.wait()
        return pwd.struct_passwd((f"user{number}", "x", number, number, "", "/", "/"))

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    accounts = SystemAccounts(patience=0.05)
    try:
        assert accounts.names(OwnerNumbers(frozenset({1, 2, 3}))).users == {1: "user1"}
        # The others are found out next time, and the one that hangs is not asked for again.
        assert accounts.names(OwnerNumbers(frozenset({1, 2, 3}))).users == {1: "user1", 3: "user3"}
        assert accounts.user("root") == 0
    finally:
        answer.set()


@pytest.mark.parametrize("trouble", [KeyError("no such user"), OSError("the server is away"), OverflowError("too large")])
def test_accounts_that_cannot_be_looked_up_have_no_name(monkeypatch, trouble):
    def getpwuid(number):
        raise trouble

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    assert SystemAccounts().names(OwnerNumbers(frozenset({5}))).users == {}
