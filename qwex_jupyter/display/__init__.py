"""Records to text and HTML: what a cell, a saved notebook and a terminal show.

Begin with `format` (records as text) and `card` (what is shown of one run); `render` makes HTML of
a card, `tables` shows many runs, `terminal`, `screen` and `colours` make lines of what a program
wrote, `publish` is the way out.
"""
