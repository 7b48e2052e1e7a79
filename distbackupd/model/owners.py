"""Who owns an entry: numbers, and the names that they stood for on the machine that was backed up.

A number means somebody else on another machine, or on the same one installed anew; a name is what a person means.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from distbackupd.model.files import Attributes

ACCESS_LISTS = (b"system.posix_acl_access", b"system.posix_acl_default")
"""Extended attributes that hold POSIX ACLs, which name users and groups by numbers."""

_HEADER = struct.Struct("<I")
_VERSION = 2
_RULE = struct.Struct("<HHI")
_NAMED_USER, _GROUP, _NAMED_GROUP, _MASK = 0x02, 0x04, 0x08, 0x10


class OwnerNumbers(NamedTuple):
    """Numbers of users and of groups."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()


class OwnerNames(NamedTuple):
    """What numbers of users and of groups are called; a number that has no name, or an unknown one, is in neither."""

    users: dict[int, str]
    groups: dict[int, str]


def numbers_in(attributes: Attributes) -> OwnerNumbers:
    """Everybody who is named in the attributes, in access lists too."""
    users, groups = {attributes.uid}, {attributes.gid}
    for name, value in attributes.xattrs:
        if name in ACCESS_LISTS:
            for tag, _, number in _rules(value):
                if tag == _NAMED_USER:
                    users.add(number)
                elif tag == _NAMED_GROUP:
                    groups.add(number)
    return OwnerNumbers(frozenset(users), frozenset(groups))


def renumbered(attributes: Attributes, user: Callable[[int], int], group: Callable[[int], int]) -> Attributes:
    """The same for other numbers of the same people. An access list of an unknown form stays as it is."""
    xattrs = tuple(
        (name, _renumbered_list(value, user, group) if name in ACCESS_LISTS else value) for name, value in attributes.xattrs
    )
    return attributes._replace(uid=user(attributes.uid), gid=group(attributes.gid), xattrs=xattrs)


def mode_without_access_list(attributes: Attributes) -> int:
    """The mode of an entry where its access list cannot be kept.

    What stands there for the group is the list's mask, the most that anybody who is named may do: without the list the
    group would get all of it.
    """
    rules = {tag: permissions for tag, permissions, _ in _rules(dict(attributes.xattrs).get(ACCESS_LISTS[0], b""))}
    if _GROUP not in rules:
        return attributes.mode
    return attributes.mode & ~0o070 | (rules[_GROUP] & rules.get(_MASK, 7) & (attributes.mode >> 3)) << 3


def _renumbered_list(value: bytes, user: Callable[[int], int], group: Callable[[int], int]) -> bytes:
    rules = _rules(value)
    if not rules:
        return value
    given = {_NAMED_USER: user, _NAMED_GROUP: group}
    packed = (_RULE.pack(tag, mode, given[tag](number) if tag in given else number) for tag, mode, number in rules)
    return value[: _HEADER.size] + b"".join(packed)


def _rules(value: bytes) -> list[tuple[int, int, int]]:
    """(tag, permissions, number) of each rule; none if the list has an unknown form."""
    body = value[_HEADER.size :]
    if len(value) < _HEADER.size or _HEADER.unpack_from(value)[0] != _VERSION or len(body) % _RULE.size:
        return []
    return list(_RULE.iter_unpack(body))
