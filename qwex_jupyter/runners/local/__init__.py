"""A run is a process of this machine, with a supervisor that outlives the kernel.

Begin with `runner` (the verbs), then `server` (forks supervisors), `supervisor` (stays with one
program) and `scribe` (copies its output). They run under ``python -I -S``, so nothing is imported
here.
"""
