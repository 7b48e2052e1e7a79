"""A source that never rests."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from pathlib import Path
from random import Random

FOLDERS = 40
_TICK = 0.1
_TREE_SECONDS = 9.0


class Churn:
    """Changes ``root`` so many times ``a_minute``, until it is stopped; ``changes`` counts."""

    def __init__(self, root: Path, a_minute: int, rng: Random, tree_files: int = 300) -> None:
        self.root = root
        self.changes = 0
        self.trees = 0
        self._a_tick = a_minute * _TICK / 60
        self._rng = rng
        self._tree_files = tree_files
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="churn", daemon=True)
        for number in range(FOLDERS):
            (root / "busy" / str(number)).mkdir(parents=True)
            for file in range(20):
                self._write(root / "busy" / str(number) / f"x{file}")
        for number in range(4):
            self._make_tree(root / f"tree{number}")
        (root / "flood").mkdir()
        for name in ("one", "two"):
            (root / "flood" / name).write_text(name)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def stop(self) -> None:
        """Until now."""
        self._stopped.set()
        self._thread.join()

    def flood(self, times: int) -> None:
        """So many events at once, no two alike after one another."""
        for number in range(times):
            os.utime(self.root / "flood" / ("one", "two")[number % 2])
        self.changes += times

    def _run(self) -> None:
        began = time.monotonic()
        done, next_tree = 0.0, began + _TREE_SECONDS
        while not self._stopped.wait(_TICK):
            due = self._a_tick * (time.monotonic() - began) / _TICK
            while done < due and not self._stopped.is_set():
                with contextlib.suppress(OSError):  # somebody renamed or deleted it just now
                    self._change()
                    self.changes += 1
                done += 1
            if time.monotonic() >= next_tree:
                self._change_tree()
                next_tree = time.monotonic() + _TREE_SECONDS

    def _change(self) -> None:
        folder = self._some_folder()
        names = os.listdir(folder)
        chance = self._rng.random()
        if chance < 0.35 or len(names) < 10:
            self._write(folder / f"n{self.changes}")
            return
        file = folder / self._rng.choice(names)
        if chance < 0.55:
            self._write(file)
        elif chance < 0.8 and len(names) > 15:
            file.unlink()
        elif chance < 0.9:
            file.rename(self._some_folder() / f"r{self.changes}")
        else:
            file.chmod(self._rng.choice([0o600, 0o640, 0o644, 0o755]))

    def _change_tree(self) -> None:
        trees = sorted(path for path in self.root.iterdir() if path.name.startswith("tree"))
        tree, kind = self._rng.choice(trees), self.trees % 3
        self.trees += 1
        if kind == 0:
            tree.rename(self.root / f"tree-{self.trees}")
        elif kind == 1:
            shutil.rmtree(tree)
            self._make_tree(self.root / f"tree-{self.trees}")
        else:
            mode = self._rng.choice([0o700, 0o750, 0o755])
            for folder, _, files in os.walk(tree):
                os.chmod(folder, mode)
                for file in files:
                    os.chmod(os.path.join(folder, file), mode & 0o666)
        self.changes += self._tree_files

    def _make_tree(self, root: Path) -> None:
        for number in range(self._tree_files):
            folder = root / f"s{number % 25}" / "below"
            folder.mkdir(parents=True, exist_ok=True)
            self._write(folder / str(number))

    def _write(self, path: Path) -> None:
        path.write_bytes(self._rng.randbytes(self._rng.choice([50, 500, 2000, 8000])))

    def _some_folder(self) -> Path:
        return self.root / "busy" / str(self._rng.randrange(FOLDERS))
