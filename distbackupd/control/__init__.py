"""D-Bus: the daemon's service ``org.distbackupd`` on the system bus, its clients, and what logind tells and is told.

The nouns: the **desk** is what the daemon shows of itself and where jobs are asked for; a **job** is numbered work that
somebody asked for, its **answer** comes when it ended. **News** is an event as it comes over the bus.

``desk`` what is shown, as the daemon sees it · ``interface`` what is shown, as D-Bus sees it · ``wire`` from one to the
other and back, and what of it is for everybody · ``service`` the daemon's side · ``authority`` who may change things and
who may read all · ``limits`` how much at a time · ``client`` the other side, for ``dsb`` and the agent · ``login`` sleep
and shutdown of the machine · ``connection`` a thread that keeps up a connection · ``trouble`` what the bus complains
about, in words.

Introspection, bus policy and polkit's actions lie in ``packaging/dbus`` and ``packaging/polkit``.
"""
