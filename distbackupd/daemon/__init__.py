"""The daemon: adapters post events, one thread works them off.

``inbox`` what is to be done, coalesced, and the stop of the job in hand · ``loop`` the one engine thread ·
``service`` the daemon's life from start to end · ``presence`` one daemon on one catalogue · ``signals`` signals as
events · ``watching`` builds watches beside the loop · ``main`` the command line.

The engine's thread is the main thread and the only one that touches catalogue and disks. All other threads (udev,
watches, schedule, signals) do nothing but post.
"""
