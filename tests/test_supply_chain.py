"""What the package carries and what builds it: exact versions, each with its hashes, the same as the tests run with."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGING = ROOT / "packaging"


def pins(name: str) -> dict[str, str]:
    """Version by canonical name, of what a file of requirements names."""
    lines = (PACKAGING / name).read_text().splitlines()
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+?)(?: \\)?", line) for line in lines]
    return {str(canonicalize_name(match[1])): match[2] for match in found if match}


def hashes(name: str) -> dict[str, list[str]]:
    """Hashes by canonical name. Every line that is no comment is a pin or a hash of the pin above it."""
    found: dict[str, list[str]] = {}
    latest: list[str] = []
    for line in (PACKAGING / name).read_text().splitlines():
        if line.startswith("#"):
            continue
        if match := re.fullmatch(r"([A-Za-z0-9._-]+)==\S+ \\", line):
            latest = found.setdefault(str(canonicalize_name(match[1])), [])
        else:
            match = re.fullmatch(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?", line)
            assert match, f"{name}: {line!r} is neither an exact version nor a SHA-256"
            latest.append(match[1])
    return found


def needed_by(names: list[str]) -> set[str]:
    """Canonical names of these packages and of all that they need here, as the installed ones say."""
    found: set[str] = set()
    pending = [str(canonicalize_name(name)) for name in names]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        for text in requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(str(canonicalize_name(requirement.name)))
    return found


@pytest.mark.parametrize("name", ["bundled.txt", "build-tools.txt"])
def test_hashed_pins_are_those_of_the_constraints_and_each_has_hashes(name: str) -> None:
    constrained = pins("constraints.txt")
    hashed = hashes(name)
    assert hashed
    assert pins(name) == {package: constrained[package] for package in hashed}
    assert all(found and len(found) == len(set(found)) for found in hashed.values())


def test_bundled_is_what_the_program_needs_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [Requirement(text).name for text in project["dependencies"]]
    assert set(hashes("bundled.txt")) == needed_by(direct)


def test_build_tools_are_what_building_needs_and_nothing_else() -> None:
    # setuptools builds those that come as source.
    assert set(hashes("build-tools.txt")) == needed_by(["hatchling", "setuptools"])


def test_package_installs_nothing_from_a_registry_without_its_hash() -> None:
    rules = (PACKAGING / "debian" / "rules").read_text()
    installs = [line for line in rules.splitlines() if line.startswith("\t$(pip)")]
    from_registry = [line for line in installs if not line.endswith(" .")]
    assert len(from_registry) == 2
    assert all("--require-hashes" in line for line in from_registry)
    assert "--no-deps" in next(line for line in rules.splitlines() if line.startswith("pip :="))
    assert rules.count("pip install") == 1
