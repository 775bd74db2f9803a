"""Network driver `bridge`: containers on a bridge of the host, behind NAT."""
