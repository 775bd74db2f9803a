"""Network driver `container`: join the network of another container."""
