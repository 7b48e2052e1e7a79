"""``distbackupd.toml`` as typed settings, and where the catalogue lies.

``settings`` reads and checks the file · ``quantities`` durations, times of day and shares as people write them ·
``places`` chooses the catalogue's folder. Every setting has a default, so no file is needed at all.
"""
