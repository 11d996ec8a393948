"""Where runners, history and observers meet.

Begin with `manager` (what a user may ask for) and `run` (the handle that they get). `tracker` asks
the backends and writes down what they say, `loop` does so again and again, `output` brings what a
program prints to disk.
"""
