"""The memory of the program: one SQLite file, ``distbackup.sqlite``, behind peewee. All SQL lives here.

``database`` opening, versions, transactions, copies · ``schema`` the tables, as migrations · ``files`` versions of files
and the queue of what waits to be hashed · ``objects`` contents and who holds them · ``disks`` enrolled disks ·
``sources`` what is mapped and set · ``sessions`` history · ``lock`` one engine at a time · ``copies`` copies on disks, and
how one takes the place of a lost catalogue · ``adoption`` distbackup's own database.

Paths and names are bytes; digests are 32-byte blobs. Sets of disks are interned, so that "same holders" is a comparison
of two integers. Small tables are read and written through peewee; hot paths use plain cursors, for peewee's models cost
five times as much. Rows never leave this package: what comes out are the values of ``model``.
"""
