"""The daemon under a load that does not end: ``make soak``, ``make soak SOAK=60m``.

Ten thousand changes a minute, trees that are renamed, made and deleted, disks that come and go, and on purpose: queues of
inotify and udev that run over, too few watches, a daemon that stands still as on a machine that sleeps. At the end nothing
may be missed, as ``reader`` sees it, which shares no code with the product, and nothing may have grown.

``churn`` changes the source · ``soak`` the whole of it, and its figures · ``daemon`` the daemon with small limits ·
``reader`` tree, catalogue and disks, compared.
"""
