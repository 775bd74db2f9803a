"""Networks: sandboxes, addresses, ports, firewall and names, around drivers that make links."""
