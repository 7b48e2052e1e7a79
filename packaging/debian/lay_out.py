"""lay_out.py ENVIRONMENT PACKAGE: lay what pip installed into a folder out as the package has it.

The environment becomes /usr/lib/distbackupd, byte-compiled, with a launcher in /usr/bin for each of our programs and
completions for the shells. Licences of what is bundled go to where Debian has such texts.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import sys
from importlib import import_module
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

LIBRARY = Path("/usr/lib/distbackupd")
DOCUMENTS = Path("/usr/share/doc/distbackupd")

LICENCES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS")

# Programs, tests, types and sources of extensions that nothing here runs or reads.
LEFT_OUT = ("bin", "pwiz.py", "test", "tests", "*-stubs", "*.pyi", "py.typed", "*.c", "*.h", "__pycache__")

# -I and -S: neither the caller's environment and folder nor Debian's or the user's own Python packages get in.
LAUNCHER = """\
#!/usr/bin/python3 -IS
import sys

sys.path.append("{library}")
from {module} import {function}

sys.exit({function}())
"""

# What argcomplete makes for bash is for zsh too.
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/dsb",
    "zsh": "usr/share/zsh/vendor-completions/_dsb",
    "fish": "usr/share/fish/vendor_completions.d/dsb.fish",
}


def main(environment: Path, package: Path) -> None:
    """Fill the package's folder; the environment is left as it was."""
    library = package / LIBRARY.relative_to("/")
    shutil.copytree(environment, library, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for folder in sorted(library.glob("*.dist-info")):
        distribution = PathDistribution(folder)
        if distribution.name == "distbackupd":
            write_launchers(distribution, package / "usr/bin")
        keep_licences(folder, package / DOCUMENTS.relative_to("/") / "licences" / distribution.name)
    write_completions(library, package)
    compile_all(library)


def write_launchers(distribution: Distribution, folder: Path) -> None:
    """One executable for each program that pyproject.toml names."""
    folder.mkdir(parents=True)
    for entry in distribution.entry_points.select(group="console_scripts"):
        launcher = folder / entry.name
        launcher.write_text(LAUNCHER.format(library=LIBRARY, module=entry.module, function=entry.attr))
        launcher.chmod(0o755)


def keep_licences(folder: Path, target: Path) -> None:
    """Move the texts of licences out, and of pip's notes keep the metadata that programs ask for."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name.upper().startswith(LICENCES):
            target.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target / path.name)
    for path in folder.iterdir():
        if path.name not in ("METADATA", "entry_points.txt"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_completions(library: Path, package: Path) -> None:
    """What argcomplete's register-python-argcomplete prints for each shell, so that nobody has to call it."""
    sys.path.append(str(library))
    argcomplete = import_module("argcomplete")
    for shell, name in COMPLETIONS.items():
        path = package / name
        path.parent.mkdir(parents=True)
        path.write_text(argcomplete.shellcode(["dsb"], shell=shell))


def compile_all(library: Path) -> None:
    """Compile to code that is loaded without a look at its source.

    Time stamps would not do: dpkg-deb may set them back to the date of the changelog, and then each start would compile
    everything again, in vain.
    """
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(
        library, maxlevels=20, quiet=1, stripdir=str(library), prependdir=str(LIBRARY), invalidation_mode=unchecked
    ):
        raise SystemExit(f"{library}: not all of it compiles, no package is built; see above")


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    main(Path(sys.argv[1]), Path(sys.argv[2]))
