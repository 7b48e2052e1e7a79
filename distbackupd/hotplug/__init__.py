"""Disks that come and go: who is plugged in, where it is mounted, and how it gets mounted and unmounted.

The nouns of this package:

* **device**: a block device by its node (``/dev/sdb1``): a partition, a whole disk without partitions, a loop or dm device.
* **volume**: a device that carries a usable file system with a UUID. Swap, LUKS and LVM or RAID members are none.
* **member**: one of several devices that make up one file system (btrfs). Together they are one volume.
* **clone**: a volume that carries the same file system UUID as another plugged one, and is not its member.
* **plugged**: udev knows the volume. A loop device without a file behind it is not plugged.
* **mount**: a volume's place in the folder tree. **Ours** are the mounts below the mounter's own mount folder.
* **user** of a mount: a process, mount or loop device that keeps it busy. (**Holders** are the disks of an object.)
* **marker**: an empty file named by the UUID of an enrolled disk's file system; the udev rule looks for it.

The modules: ``monitor`` tells what is plugged in · ``plugged`` makes one event of each plug · ``devices`` asks udev and
blkid about volumes · ``mounts`` is the engine's ``Mounter`` · ``mountinfo`` reads the kernel's list of mounts ·
``commands`` calls mount and umount · ``users`` names who keeps a mount busy · ``syncfs`` flushes one file system ·
``enrolled`` keeps the markers. No pyudev object leaves this package.
"""
