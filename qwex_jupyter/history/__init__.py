"""All runs: folders to records to a DataFrame.

Begin with `history`. `reading` makes a record of one folder, `cache` and `columns` keep what was
read, `frame` makes the DataFrame, `search` finds the run that a person means.
"""
