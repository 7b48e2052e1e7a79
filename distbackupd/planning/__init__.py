"""Pure decisions, from values to values: no clock, no file system, no logger, no module-level random.

``cycle`` what to evict and copy on one disk · ``patterns`` which names are ignored · ``comparison`` what changed in a
folder · ``attendance`` whether a source can be trusted today.
"""
