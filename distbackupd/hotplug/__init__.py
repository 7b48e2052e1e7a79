"""Disks that come and go: who is plugged in, how it is unlocked, checked and mounted, and how it is let go again.

The nouns of this package:

* **device**: a block device by its node (``/dev/sdb1``): a partition, a whole disk without partitions, a loop or dm device.
* **volume**: a device that carries a usable file system with a UUID, or a LUKS container. Swap, LVM and RAID members are
  none.
* **container**: a LUKS device, which must be unlocked. What shows then, on a device of its own, is its **inside**; the two
  have UUIDs of their own. **Ours** are the insides that this program unlocked; their names begin with ``distbackup-``.
* **member**: one of several devices that make up one file system (btrfs). Together they are one volume.
* **clone**: a volume that carries the same UUID as another plugged one, and is not its member.
* **drive**: a whole disk, which is unplugged, and switched off, with all that lies on it.
* **plugged**: udev knows the volume. A loop device without a file behind it is not plugged.
* **mount**: a volume's place in the folder tree. **Ours** are the mounts below the mounter's own mount folder.
* **user** of a mount: a process, mount or loop device that keeps it busy. (**Holders** are the disks of an object.)
* **root's list**: the enrolled disks by the UUIDs of their file systems and containers, as root alone keeps it.
* **helper**: the program that mounts for the daemon, which is not root. What it is asked for is an **errand**.
* **held**: a device that is kept open, so that no other disk gets its node meanwhile.
* **sandbox**: what systemd confines daemon and helper to. What needs more is **delegated** to PID 1, by the helper.

What is plugged in: ``monitor`` tells of it · ``plugged`` makes one event of each plug · ``devices`` asks udev and blkid
about volumes · ``sysfs`` asks the kernel about devices · ``enrolled`` keeps root's list · ``lookups`` is what anybody may
ask about disks and mounts.

How a disk is used: ``mounts`` is the engine's ``Mounter``, a straight line through the others, for root and for the
helper · ``helper_client`` is that of the daemon, which sends the helper on ``errands`` · ``held`` makes sure that a device
is the one that was meant · ``unlocking`` opens containers · ``keys`` keeps the keys to them · ``checking`` looks whether a
disk is fit for use · ``filesystems`` mounts and unmounts · ``mountinfo`` reads the kernel's list of mounts · ``users``
names who keeps a mount busy · ``syncfs`` flushes one file system · ``power`` switches drives off · ``root_files`` are
written durably · ``afterwards`` does what must be done at the end.

``commands`` runs every outside command, directly or by PID 1. No pyudev object leaves this package.
"""
