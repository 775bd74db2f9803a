"""Frontend `docker`: the Docker Engine API, so that Docker's clients work unmodified.

A request's way through this plugin, one room each:

    server    addresses, accepting, leaving
    wire      bytes ↔ HTTP (h11), limits, deadlines, the hand-over of a connection
    routing   method and path → the function that answers, and the version asked for
    containers, execs, images, networks, volumes, system, absent …   one module per area of the API
    decode, query   what the client sent → typed values, or a 400 that says which field is wrong
    door      the one way into the engine, which is blocking
    render    the engine's values → the JSON that dockerd answers
"""

from __future__ import annotations

from wherry_docker_api.front import DockerApi

__all__ = ["DockerApi"]
