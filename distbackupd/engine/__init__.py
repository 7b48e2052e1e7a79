"""Use cases: they tell the story and leave decisions to ``planning``, doing to the ports that ``wiring`` hands them.

``scan`` walk the sources and record what they hold · ``hashing`` read what is new · ``session`` a disk from mount to
unmount · ``execution`` carry out a plan durably · ``verification`` re-read copies · ``restoration`` bring it back ·
``enrolment`` add, rename, drop and refresh disks · ``catalogue_copy`` the copy on each disk, and which knows more ·
``recovery`` and ``object_recovery`` from nothing but disks · ``adoption`` what distbackup knows · ``ports`` what they need
from outside.
"""
