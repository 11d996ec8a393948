"""One run's folder, and where all of them are.

Begin with `facts`: small JSON files that appear once and are never replaced. `logs` are the output
byte for byte, `carry` what goes along with a run, `home` and `opening` the folder of them all.
"""
