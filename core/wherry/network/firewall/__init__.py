"""The firewall of an engine's networks: one model of what is wanted, two writers of it (nft and legacy iptables)."""
