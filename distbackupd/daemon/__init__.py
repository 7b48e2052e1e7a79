"""The daemon: adapters post events, one thread works them off.

``inbox`` what is to be done, coalesced, and the stop of the job in hand · ``loop`` the one engine thread ·
``service`` the daemon's life from start to end · ``presence`` one daemon on one catalogue · ``signals`` signals as
events · ``watching`` builds watches beside the loop · ``vigil`` sees that work stands still · ``main`` the command line.

The engine's thread is the only one that touches catalogue and disks. All other threads (udev, watches, schedule, signals)
do nothing but post; the main thread waits for the engine's, so that signals always find somebody.
"""
