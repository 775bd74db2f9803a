"""Network driver `bridge`: containers on a bridge of the host, behind NAT."""

from wherry_bridge_net.driver import BridgeNetwork

__all__ = ["BridgeNetwork"]
