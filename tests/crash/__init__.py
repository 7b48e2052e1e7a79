"""Nothing is lost, whenever power, the program or the disk fails: tried at every moment of a whole life of the product.

    make crash                          10,000 cuts; a table of what was tried
    make crash CUTS=100000 SEED=7       more, others
    make crash CUT=build/crash/...      one that lost something, alone

``life`` are the operations, ``sequences`` chooses what is cut · ``recording`` block devices that remember every write and
flush in order · ``images`` what a power cut leaves of them · ``faults`` kill -9 and errors, call by call · ``filesystems``
ext4, xfs, btrfs, exFAT, NTFS · ``devices`` loop devices and mounts that go with their process · ``shelf`` a catalogue, two
disks and a source, put into any state · ``product`` runs the product on it · ``reader`` looks at what is left, with no code
of the product, and ``promises`` says what must hold · ``cuts`` plays one cut after the other · ``worker``, ``report``.

A **cut** is a moment of a recorded operation and a fault: of a power cut also which of the writes that were not flushed
arrived. Many cuts leave the same **devices**, byte by byte, and many of these the same **state** to whoever reads them
after mounting: each state is gone on with once, by the sessions that a user would have next, and its verdict counts for all.
"""
