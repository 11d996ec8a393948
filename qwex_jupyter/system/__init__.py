"""This machine, this process and its front end.

`process` says which process is meant, `interrupts` and `flag` keep the stop button from breaking
what may not be broken, `background` and `threads` are for what may wait, `frontend` knows what
IPython is here, and `compat` has what other libraries keep to themselves.
"""
