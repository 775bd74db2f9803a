"""Frontend `docker`: the Docker Engine API, so that Docker's clients work unmodified."""
