"""Network driver `host`: containers use the host's network as it is."""
