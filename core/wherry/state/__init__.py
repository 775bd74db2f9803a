"""What is on disk, and what its writing promises."""
