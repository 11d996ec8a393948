"""Values: what a run is, what it was asked to be, and how its end is decided. No I/O.

Begin with `spec` (what is asked), then `status` (the conditions), `verdict` (the one function that
decides an end) and `record` (what is remembered). `patience` holds how long each thing is waited
for; `units`, `text` and `run_ids` write values for people.
"""
