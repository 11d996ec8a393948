"""What the runners of containers share, whoever runs them: Docker's engines and Kubernetes.

`log_reader` brings output to disk, whatever happens on the way, over `http_stream`; `wording` knows
what runtimes say of a start, `conventions` the paths and labels in a container.
"""
