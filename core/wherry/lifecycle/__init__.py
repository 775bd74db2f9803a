"""What happens in a container's life, one verb a file."""
