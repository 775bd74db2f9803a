"""The process that stays with a container, the launcher that forks it, and the daemon's side of both."""
