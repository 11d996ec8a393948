"""What a notebook's cell does: the magics, and what they show while a run lives.

Begin with `magics` and `verbs` (what a line does), then `cell` (what happens under a cell) and
`views` (where that is shown). `cards` are of runs that no cell watches, `twin` is one card in two
outputs.
"""
