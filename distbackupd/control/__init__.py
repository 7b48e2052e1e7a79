"""D-Bus: the daemon's service ``org.distbackupd`` on the system bus, its clients, and what logind tells and is told.

The nouns: the **desk** is what the daemon shows of itself and where jobs are asked for; a **job** is numbered work that
somebody asked for, its **answer** comes when it ended. **News** is an event as it comes over the bus.

``desk`` what is shown, as the daemon sees it · ``interface`` what is shown, as D-Bus sees it · ``wire`` from one to the
other and back · ``service`` the daemon's side · ``authority`` who may change things · ``client`` the other side, for
``dsb`` and the agent · ``login`` sleep and shutdown of the machine · ``connection`` a thread that keeps up a connection ·
``trouble`` what the bus complains about, in words.

Introspection, bus policy, activation and polkit's action lie in ``packaging/dbus`` and ``packaging/polkit``.
"""
