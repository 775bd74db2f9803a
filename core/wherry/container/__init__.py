"""One container: its record on disk, its states, the one operation that it has at a time."""
