"""Follows a ledger from outside and says when it forks, skips or changes what it published."""

from bootlease.monitor.following import Monitor, Round
from bootlease.monitor.source import LogSource, NotPublishedError
from bootlease.monitor.state import MonitorState, load_state, save_state

__all__ = [
    "LogSource",
    "Monitor",
    "MonitorState",
    "NotPublishedError",
    "Round",
    "load_state",
    "save_state",
]
