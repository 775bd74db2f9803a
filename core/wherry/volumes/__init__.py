"""Volumes: directories with a name and a life of their own; and what a container mounts of them, of the host, of memory."""

from wherry.volumes.named import Volume, Volumes

__all__ = ["Volume", "Volumes"]
