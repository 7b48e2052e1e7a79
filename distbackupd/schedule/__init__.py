"""The regular jobs: the nightly scan by the wall clock, and looking after things every minute.

``walltime`` is the pure decision when the next scan is due · ``schedule`` runs the clock on apscheduler.
"""
