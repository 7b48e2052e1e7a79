"""How many objects find inodes, on file systems that were made with a fixed number of them.

Each object takes one, and so does each of the layout's folders, which are made when the first object comes into them.
Digests are random, so which folders that will be is known only when it happens: what is told here is enough but for one
case in ten thousand.
"""

from __future__ import annotations

from math import expm1, log1p, sqrt

FOLDERS = 4096
"""So many folders the layout has at the most."""

_DEVIATIONS = 4
"""So many standard deviations more folders than expected are reckoned with."""


def new_folders(objects: int, folders: int) -> int:
    """How many folders will surely be enough for so many objects more where ``folders`` are there."""
    missing = max(0, FOLDERS - folders)
    hit = -expm1(objects * log1p(-1 / FOLDERS))
    expected = missing * hit
    return min(objects, missing, int(expected + _DEVIATIONS * sqrt(expected * (1 - hit))) + 1)


def objects_within(files: int, folders: int) -> int:
    """How many objects more find inodes, with the folders that they need, where ``files`` are free."""
    least, most = 0, max(0, files)
    while least < most:
        middle = (least + most + 1) // 2
        if middle + new_folders(middle, folders) <= files:
            least = middle
        else:
            most = middle - 1
    return least
