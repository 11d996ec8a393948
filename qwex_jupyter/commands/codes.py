"""The exit codes of ``qwex`` beside a program's own; ``docs/scripts.md`` says which verb has which.

They are numbers of their own, as not every system has the signals that two of them are named by.
"""

# A mistake in the line, or a run that isn't there: EX_USAGE of sysexits.h.
USAGE = 64
# What was asked for could not be done; or a run that didn't succeed and has no code of its own.
NO_CODE = 1
# Ctrl-C ended the watching, as SIGINT would.
INTERRUPTED = 130
# Nobody reads the output any more, as SIGPIPE would.
NO_READER = 141
