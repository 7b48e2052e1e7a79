"""``distbackup-agent``: tells the person at the desk what the daemon does, by desktop notifications."""
