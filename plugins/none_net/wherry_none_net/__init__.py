"""Network driver `none`: a network namespace with nothing but loopback."""
