"""Asking before something is done."""

from __future__ import annotations

import io
import sys

import pytest

from distbackupd.cli.consent import must_agree
from distbackupd.model.errors import UsageError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["y\n", "Y\n", " yes \n"])
def test_must_agree_whoever_says_so_does(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    must_agree("Do it?", False)


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yeah\n"])
def test_must_agree_anything_else_is_no(
    answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    with pytest.raises(UsageError, match="nobody agreed, so nothing was changed"):
        must_agree("Do it?", False)
    assert capsys.readouterr().err == "Do it? [y/N] "


def test_must_agree_where_nobody_is_to_answer_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match="--yes agrees beforehand"):
        must_agree("Do it?", False)
    must_agree("Do it?", True)
