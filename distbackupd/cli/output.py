"""Printing that no file name can break, and JSON for machines."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from distbackupd.cli.outlet import Outlet


def show_what_cannot_be_shown() -> None:
    """Escape what the terminal's encoding lacks, instead of ending with an error at the first umlaut."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def lines_can_change() -> bool:
    """Whether standard output is a terminal on which what stands there can be written over; a dumb one is none."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def say(text: str = "") -> None:
    """One line to standard output, which whoever reads a pipe or a file sees at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_lines(lines: Iterable[str]) -> None:
    """Lines that are written while they are made, many at a time: there may be millions, and nobody waits for one."""
    with Outlet() as outlet:
        for line in lines:
            outlet.write(line + "\n")


def say_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> None:
    """A table in columns as wide as their content; ``right``: columns that are aligned to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())


def say_json(value: Any) -> None:
    """One JSON document. Bytes of names that are no UTF-8 appear as lone surrogates, as ``os.fsdecode`` gives them."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=True, default=_plain)
    sys.stdout.write("\n")
    sys.stdout.flush()


def say_json_list(values: Iterable[Any]) -> None:
    """A JSON list, written while it is made: it may have millions of members."""
    separator = "[\n"
    with Outlet() as outlet:
        for value in values:
            outlet.write(separator + json.dumps(value, ensure_ascii=True, default=_plain))
            separator = ",\n"
        outlet.write("[]\n" if separator == "[\n" else "\n]\n")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{value!r} has no place in JSON")
