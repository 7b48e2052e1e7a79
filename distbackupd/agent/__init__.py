"""``distbackup-agent``: tells the person at the desk what the daemon does, by desktop notifications.

The nouns: **news** are the daemon's events as they come over D-Bus; a **notice** is what the person is told of them, with
the **actions** that can be clicked; the **screen** is the session's notification server.

``notices`` which news become which notice, purely · ``teller`` from the daemon to the screen, and clicks back ·
``desktop`` the screen · ``memory`` what was shown last · ``main`` one agent for a session.

It runs in every session of every person, so it imports neither engine nor database.
"""
