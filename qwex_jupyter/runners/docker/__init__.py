"""A run is a container of an engine, tracked through the engine's own API.

Begin with `runner` (the verbs), then `body` (a spec as a create call), `launch` (from there to a
container that runs), `state` (an engine's words to ours) and `logs`.
"""
