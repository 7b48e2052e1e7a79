"""Pure decisions, from values to values: no clock, no file system, no logger, no module-level random.

``cycle`` what to evict and copy on one disk, with its parts: ``sorting`` (what may come, what may leave), ``groups`` and
``queues`` (millions of objects in columns), ``victims`` (what makes way), ``exposure`` (what dies together),
``rebalancing`` (exchanges that only spread the risk) · ``losses`` what dead disks take with them · ``simulation`` rounds of
cycles that move no bytes · ``next_disk`` which one to bring · ``brake`` whether anything may leave at all ·
``patterns`` which names are ignored · ``comparison`` what changed in a folder · ``attendance`` whether a source can be
trusted today · ``selection`` and ``destination`` what a restore means and where it may write.
"""
