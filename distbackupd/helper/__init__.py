"""``distbackupd-helper``: mounts, checks, unlocks and lets go the disks that root has enrolled, and nothing else.

The daemon reads what strangers wrote: sources, file systems, catalogues. So it runs as a user of its own, and what takes
root is done here, in a program that reads three things only: errands of a few words (:mod:`distbackupd.hotplug.errands`),
root's own list of disks (:mod:`distbackupd.hotplug.enrolled`), and what kernel, udev and blkid tell of the device meant.
Whoever controls the daemon can have enrolled disks mounted without programs, devices and links, unmounted, locked and
switched off; he cannot name a device, a folder, an option or a command.

It serves one caller at a time, and ends when nobody has asked for a while; systemd listens for it meanwhile.

``main`` is the program · ``serving`` does the errands. It knows neither the engine nor any adapter but hotplug.
"""
