from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.model.files import Attributes
from distbackupd.model.owners import ACCESS_LISTS, mode_without_access_list, numbers_in, renumbered

numbers = st.integers(0, 2**32 - 1)
rules = st.lists(st.tuples(st.sampled_from([0x01, 0x02, 0x04, 0x08, 0x10, 0x20]), st.integers(0, 7), numbers), max_size=6)


def packed(listed):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *rule) for rule in listed)


@given(numbers, numbers, rules)
def test_renumbered_gives_each_named_user_and_group_its_number_and_leaves_the_rest(uid, gid, listed):
    attributes = Attributes(0o640, uid, gid, 0, ((b"system.posix_acl_default", packed(listed)), (b"user.x", packed(listed))))
    moved = renumbered(attributes, lambda user: user ^ 1, lambda group: group ^ 2)
    expected = [(tag, mode, number ^ {0x02: 1, 0x08: 2}.get(tag, 0)) for tag, mode, number in listed]
    assert moved == Attributes(
        0o640, uid ^ 1, gid ^ 2, 0, ((b"system.posix_acl_default", packed(expected)), (b"user.x", packed(listed)))
    )
    named = numbers_in(attributes)
    assert named.users == {uid, *(number for tag, _, number in listed if tag == 0x02)}
    assert named.groups == {gid, *(number for tag, _, number in listed if tag == 0x08)}


@given(st.binary(max_size=30), st.sampled_from(ACCESS_LISTS))
def test_renumbered_same_numbers_change_nothing_whatever_the_list_is(value, name):
    attributes = Attributes(0o777, 5, 6, 0, ((name, value),))
    assert renumbered(attributes, lambda user: user, lambda group: group) == attributes
    assert {5} <= numbers_in(attributes).users


@pytest.mark.parametrize(
    ("group", "mask", "mode", "expected"),
    [(5, 7, 0o770, 0o750), (0, 7, 0o4770, 0o4700), (7, 4, 0o640, 0o640), (4, 7, 0o774, 0o744), (6, None, 0o660, 0o660)],
)
def test_mode_without_access_list_gives_the_group_what_the_list_gave_it(
    group: int, mask: int | None, mode: int, expected: int
) -> None:
    rules = [(0x01, 7, 2**32 - 1), (0x02, 7, 12), (0x04, group, 2**32 - 1), (0x20, 4, 2**32 - 1)]
    rules += [(0x10, mask, 2**32 - 1)] if mask is not None else []
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *rule) for rule in rules)
    assert mode_without_access_list(Attributes(mode, 0, 0, 0, ((ACCESS_LISTS[0], value),))) == expected
    assert mode_without_access_list(Attributes(mode, 0, 0)) == mode
    assert mode_without_access_list(Attributes(mode, 0, 0, 0, ((ACCESS_LISTS[0], b"no list"),))) == mode
