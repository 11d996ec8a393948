"""The verbs and options, shared by notebook and terminal.

`line` splits a magic's line, `options` makes a spec of it, `base` has what each verb does, `verbs`
the answers that are texts, `completion` says what may come next.
"""
