"""distbackupd: spread a backup over a shelf of labelled offline disks. Plug one in and walk away.

The map of the house; lower floors know nothing of higher ones (a test holds every wall):

    daemon | agent | cli | helper   what systemd, a desktop or a person starts
    wiring                          the only place that builds adapters and hands them to the engine
    catalogue | store | sources | hotplug | schedule | control | notify | config     adapters, one outside thing each
    streams                         reading and hashing open files, for adapters
    engine                          use cases: scan, backup, verify, restore, enrol; speaks to ports only
    planning                        pure decisions: what to evict, copy and verify; ignore rules
    model                           frozen values, events, errors

The way of a disk from plug to unplug, with the module that tells each part:

    udev rule -> hotplug.monitor (DiskAppeared) -> daemon.inbox -> daemon.loop -> engine.session.back_up_volume:
        with mounter.mounted(...):                                 (helper) unlock -> check -> mount
            run_session: identify -> planning.cycle -> engine.execution -> verify a share -> save the catalogue's copy
        engine.release:                                            flushed, unmounted, locked -> switch off -> may unplug
    -> events (model.events) -> notify (journal, status) and daemon.board -> control (D-Bus) -> agent (desktop)

The words, used for the same things everywhere:

* **source**: a real folder mapped to a place in the **virtual tree**. Sources nest.
* **file**: an entry of the virtual tree of any kind, with its metadata. **version**: what a path was between two moments.
* **object**: the content of a regular file, named by its SHA-256. Empty files have none.
* **backup disk**: a labelled offline disk, known by the UUID in its ``distbackup-disk.json`` and its file system's UUID.
* **holders** of an object: the set of disks that hold a copy. **copies**: how many they are.
* **protected**: has as many copies as wanted. **saturated**: has ``maxcopies``.
* **orphan**: an object that no living file refers to. **grace**: how long its last copy is kept.
* **session**: from plug to unplug of one disk. **cycle**: delete, copy, replicate, verify. **plan**: its ordered steps.
"""

__version__ = "0.1.0"
