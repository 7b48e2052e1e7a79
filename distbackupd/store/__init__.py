"""The layout on a backup disk, and durable writes to it.

    distbackup-disk.json                who the disk is
    distbackup.sqlite                   a consistent copy of the catalogue
    distbackup-objects/000/0005e3d2...  object files: three hexadecimal digits, then the whole SHA-256
    distbackup-tmp/                     copies that are not finished; named by their SHA-256
    bad-objects/                        copies that a verification found bad, and what stood in the layout's way
    distbackup-session.json             what its last session left, so that an older image or a clone shows
    distbackup-restore.py, README.txt   how to bring it back without this program

Durable means: written beside, flushed, renamed, flushed again; in batches, one flush for many objects. ``folder_store``
does it, ``staging`` writes the copies · ``folders`` and ``layout`` real folders, held open · ``plain_files`` nothing but
regular files is opened, by a name in one of them ·
``answering`` whether the disk itself still answers · ``session_token`` what a session leaves · ``catalogue_copy`` the copy
and the leaflets beside it · ``flushing`` what a flush is on which file system · ``identity`` the JSON file ·
``stand_alone`` what lies on every disk for the day on which only the disk is left.
"""
