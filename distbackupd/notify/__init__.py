"""What is told to systemd and to people who read the journal.

``journal`` one log record as one journal entry, or as a line on stderr · ``readiness`` sd_notify and the watchdog's
ping · ``reporter`` what use cases report, as journal entries and a status line · ``progress`` that line. Nothing here
raises because systemd is not there: from a shell the same words go to stderr.
"""
