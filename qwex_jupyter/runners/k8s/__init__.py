"""A run is a Job of a cluster, tracked through the API server and nothing else.

Begin with `runner` (the verbs), then `manifest` (a spec as a Job), `launch` (from there to a pod
that runs), `watch` and `finder` (what a cluster has), `state` and `waiting` (its words to ours) and
`logs`.
"""
