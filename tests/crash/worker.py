"""A process that plays tasks: in a mount namespace of its own, everything of it in memory, all gone with it."""

from __future__ import annotations

import gzip
import os
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.crash import devices, images, product
from tests.crash.cuts import LOST, UNUSABLE, Cut, Scene, Verdict
from tests.crash.filesystems import FILESYSTEMS, Filesystem
from tests.crash.life import Step, enrolment, whole_life, words
from tests.crash.sequences import Task
from tests.crash.shelf import DEVICES, DISKS, Seen, Shelf, World

_FOLDER = "/run/crash"


@dataclass
class Tally:
    """What came of the cuts of one step: how many of each kind ended how, and how many were met for the first time."""

    filesystem: str
    scene: str
    results: Counter[tuple[str, str]] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    worlds: Counter[str] = field(default_factory=Counter)
    losses: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)
    unusable: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    processor_seconds: float = 0.0


class Worker:
    """``failed``: where cuts are kept that lost something, to be played again."""

    def __init__(self, failed: str, seed: int) -> None:
        self._failed, self._seed = failed, seed
        devices.enter_private_namespace()
        # Nobody's udev and no bus are seen from now on. Paths that a catalogue remembers are the same in each worker.
        devices.mount("crash", "/run", "tmpfs", "size=75%,mode=755")
        product.prepare()
        self._shelves: dict[str, tuple[Shelf, World]] = {}

    def play(self, task: Task) -> Iterator[Tally]:
        """A tally of each step that is cut."""
        shelf, world = self._begun(FILESYSTEMS[task.filesystem])
        if task.is_life:
            for step in whole_life(shelf):
                world, tally = self._step(shelf, world, step, f"life: {step.name}", task.cuts)
                yield tally
            return
        known = {step.name: step for step in words(shelf)}
        worlds: dict[tuple[str, ...], World] = {(): self._two_disks(shelf, world)}
        for sequence in task.sequences:
            for length in range(1, len(sequence) + 1):
                part = sequence[:length]
                if length == len(sequence):
                    worlds[part], tally = self._step(shelf, worlds[part[:-1]], known[part[-1]], " ".join(part), task.cuts)
                    yield tally
                elif part not in worlds:
                    worlds[part], _ = self._step(shelf, worlds[part[:-1]], known[part[-1]], " ".join(part), 0)

    def again(self, path: str) -> Verdict:
        """A cut that was kept, alone."""
        with gzip.open(path) as file:
            kept = pickle.load(file)
        shelf = Shelf(f"{_FOLDER}/{kept['filesystem']}", FILESYSTEMS[kept["filesystem"]])
        shelf.new_world()
        shelf.facts = kept["facts"]
        steps = whole_life(shelf) if kept["scene"].startswith("life: ") else words(shelf)
        step = next(step for step in steps if step.name == kept["step"])
        world = kept["world"]
        seen = self._look(shelf, world)
        scene = Scene(shelf, world, step, seen.catalogue, seen.disks)
        return scene.play(kept["cut"], kept["left"])

    def _begun(self, kind: Filesystem) -> tuple[Shelf, World]:
        if kind.name not in self._shelves:
            shelf = Shelf(f"{_FOLDER}/{kind.name}", kind)
            world = shelf.new_world()
            shelf.lay_out(world)
            self._shelves[kind.name] = shelf, self._changed(shelf, world, lambda: _must(shelf, *enrolment(shelf)))
        return self._shelves[kind.name]

    def _two_disks(self, shelf: Shelf, world: World) -> World:
        """What sequences begin with: two disks, and the first copies."""
        first = whole_life(shelf)
        world = replace(world, source=first[1].change({}))
        shelf.lay_out(world)
        commands = (*first[1].commands, *first[2].commands, ("backup", "-u", "d2"))
        return self._changed(shelf, world, lambda: _must(shelf, *commands))

    def _step(self, shelf: Shelf, world: World, step: Step, name: str, count: int) -> tuple[World, Tally]:
        world = replace(world, source=step.change(world.source), keep=step.keep or world.keep)
        if step.before:
            before = step.before
            world = self._changed(shelf, world, lambda: before(shelf))
        tally, began = Tally(shelf.kinds[DISKS[0]].name, name), sum(os.times()[:4])
        seen = self._look(shelf, world)
        scene = Scene(shelf, world, step, seen.catalogue, seen.disks)
        if (ended := scene.played.outcomes[-1]).status != step.ends:
            raise RuntimeError(f"{name}: ended with {ended.status}: {ended.complaints}")
        dice = random.Random(f"{self._seed} {tally.filesystem} {name}")
        for cut in scene.choose(count, dice) if count else []:
            self._count(tally, scene, cut, scene.play(cut))
        tally.processor_seconds = sum(os.times()[:4]) - began
        return replace(world, images=scene.played.after), tally

    def _count(self, tally: Tally, scene: Scene, cut: Cut, verdict: Verdict) -> None:
        tally.results[cut.kind, verdict.result] += 1
        tally.images[cut.kind] += verdict.image
        tally.worlds[cut.kind] += verdict.world
        if verdict.result == LOST and verdict.world:
            tally.losses.append((cut.label, verdict.problems, self._kept(tally, scene, cut)))
        if verdict.result == UNUSABLE and verdict.world:
            tally.unusable.append((cut.label, verdict.problems))

    def _kept(self, tally: Tally, scene: Scene, cut: Cut) -> str:
        os.makedirs(self._failed, exist_ok=True)
        if len(os.listdir(self._failed)) > 200:
            return ""
        name = f"{tally.filesystem}-{tally.scene}-{cut.label}".replace(": ", "-").replace(", ", "-").replace(" ", "-")
        path = f"{self._failed}/{name}.cut"
        kept = {
            "filesystem": tally.filesystem,
            "scene": tally.scene,
            "step": scene.step.name,
            "world": scene.world,
            "facts": scene.shelf.facts,
            "cut": cut,
            "left": scene.left,
        }
        with gzip.open(path, "wb", compresslevel=1) as file:
            pickle.dump(kept, file)
        return path

    def _changed(self, shelf: Shelf, world: World, change: Callable[[], None]) -> World:
        """The world after something was done with everything mounted."""
        for device in DEVICES:
            shelf.put(device, world.images[device])
        with shelf.mounted(*DEVICES):
            change()
        return replace(world, images={device: images.load(shelf.image(device)) for device in DEVICES})

    def _look(self, shelf: Shelf, world: World) -> Seen:
        for device in DEVICES:
            shelf.put(device, world.images[device])
        with shelf.mounted(*DEVICES):
            return shelf.look(DISKS, {})


def _must(shelf: Shelf, *commands: tuple[str, ...]) -> None:
    for command in commands:
        outcome = shelf.command(*command)
        if outcome.status:
            raise RuntimeError(f"dsb {' '.join(command)} ended with {outcome.status}: {outcome.complaints}")
