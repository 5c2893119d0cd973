"""Moments as people read them."""

from __future__ import annotations

import time


def utc(seconds: int) -> str:
    """Return seconds since the epoch as date and time, UTC."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s after 1970"
