"""D-Bus: the daemon's service ``org.distbackupd`` on the system bus, its clients, and what logind tells and is told.

The nouns: the **desk** is what the daemon shows of itself and where jobs are asked for; a **job** is numbered work that
somebody asked for, its **answer** comes when it ended.
"""
