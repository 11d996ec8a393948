"""For tests of what is built on this package.

`memory` is a runner that does as it is told; `contract` is the suite that every runner passes, and
the only part that needs pytest.
"""
