"""Which names of hosts never leave this machine."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Nobody outside this machine reaches ``host`` or listens on the way to it.

    A name other than ``localhost`` is never taken for loopback: who answers for it may change.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
