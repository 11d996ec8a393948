"""A runner of another package: processes that run under ``nice -n N``.

`declared` says what it can, `runner` is what the manager talks to, `keeper` the process that
stays with each program. Each run has a folder in a spool, which is this runner's whole backend.
"""
