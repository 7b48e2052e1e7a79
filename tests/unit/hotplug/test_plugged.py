from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distbackupd.hotplug.plugged import PluggedVolumes
from distbackupd.model.disks import Volume
from distbackupd.model.inbox import DiskAppeared, DiskVanished

PHOTOS = Volume("/dev/sdb1", "1111-2222", "vfat", "PHOTOS")
MUSIC = Volume("/dev/sdb1", "3333-4444", "vfat", "MUSIC")


def test_seen_repeatedly_tells_once() -> None:
    plugged = PluggedVolumes()
    assert plugged.seen("/dev/sdb1", PHOTOS) == [DiskAppeared(PHOTOS)]
    assert plugged.seen("/dev/sdb1", PHOTOS) == []
    relabelled = Volume("/dev/sdb1", "1111-2222", "vfat", "OTHER")
    assert plugged.seen("/dev/sdb1", relabelled) == []


def test_seen_after_it_went_tells_again() -> None:
    plugged = PluggedVolumes()
    plugged.seen("/dev/sdb1", PHOTOS)
    assert plugged.seen("/dev/sdb1", None) == [DiskVanished("/dev/sdb1")]
    assert plugged.seen("/dev/sdb1", None) == []
    assert plugged.seen("/dev/sdb1", PHOTOS) == [DiskAppeared(PHOTOS)]


def test_seen_with_another_file_system_tells_both() -> None:
    plugged = PluggedVolumes()
    plugged.seen("/dev/sdb1", PHOTOS)
    assert plugged.seen("/dev/sdb1", MUSIC) == [DiskVanished("/dev/sdb1"), DiskAppeared(MUSIC)]


def test_seen_unusable_device_tells_nothing() -> None:
    assert PluggedVolumes().seen("/dev/sda2", None) == []


def test_listed_tells_only_differences() -> None:
    plugged = PluggedVolumes()
    other = Volume("/dev/sdc1", "5555-6666", "ext4")
    assert plugged.listed([PHOTOS]) == [DiskAppeared(PHOTOS)]
    assert plugged.listed([PHOTOS]) == []
    assert plugged.listed([other]) == [DiskVanished("/dev/sdb1"), DiskAppeared(other)]


DEVICES = st.sampled_from(["/dev/sda1", "/dev/sdb1", "/dev/sdc"])
CONTENTS = st.one_of(st.none(), st.sampled_from(["uuid-1", "uuid-2"]))


@given(st.lists(st.tuples(DEVICES, CONTENTS)), st.dictionaries(DEVICES, CONTENTS))
def test_events_replayed_give_what_is_plugged(seen: list[tuple[str, str | None]], listed: dict[str, str | None]) -> None:
    """Appeared and vanished alternate for each device, and whoever follows them knows what is plugged."""
    plugged = PluggedVolumes()
    events = []
    truth: dict[str, str] = {}
    for device, uuid in seen:
        events += plugged.seen(device, Volume(device, uuid, "ext4") if uuid else None)
        truth = {**truth, device: uuid} if uuid else {name: known for name, known in truth.items() if name != device}
        assert _replay(events) == truth
    truth = {device: uuid for device, uuid in listed.items() if uuid}
    events += plugged.listed(Volume(device, uuid, "ext4") for device, uuid in truth.items())
    assert _replay(events) == truth


def _replay(events: list[DiskAppeared | DiskVanished]) -> dict[str, str]:
    state: dict[str, str] = {}
    for event in events:
        if isinstance(event, DiskVanished):
            del state[event.device]
        else:
            assert event.volume.device not in state
            state[event.volume.device] = event.volume.filesystem_uuid
    return state
