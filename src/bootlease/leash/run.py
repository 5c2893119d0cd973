"""A workload under a lease, from its beginning to its end: what ``bootlease run`` does."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bootlease.errors import MalformedError
from bootlease.leash import kernel
from bootlease.leash.deadline import TimeNamespaceError, refuse_time_namespace
from bootlease.leash.ending import Ending, Reason, RunExit
from bootlease.leash.killing import kill_all
from bootlease.leash.laying import LaidLeash, LeashError, Wanted, lay
from bootlease.leash.levels import Level, stated
from bootlease.leash.plan import Hold, occupy_standard_descriptors
from bootlease.leash.terminal import Terminal
from bootlease.leash.values import Log, Terms
from bootlease.model import legible

_EXPIRING: Final = "tpm-expiring"
_MAX_SHOWN: Final = 80
_CONTAINER_CAVEAT: Final = (
    "level 0: the container's first process is the leash; whatever else runs in the container ends"
    " with it"
)
_SWEEP_CAVEAT: Final = (
    "level 0: the workload has no namespace of its own; if it kills guard and leash at once, or"
    " takes another user id, it lives on"
)


@dataclass(frozen=True, slots=True)
class Run:
    """What to run, and on which lease.

    Attributes:
        command: Program and arguments.
        scope: Scope names.
        audience: The relying party.
        encoding: Form of the token.
        confirmation: Where the confirmation key lives.
        socket: The agent's socket, where it is not the usual one.
        at_most: Highest level to use.
        required: Lowest level to start at.
        terms: How to go about the end.
        keep_capabilities: Leave a root workload what could undo its leash.
    """

    command: Sequence[str]
    scope: Sequence[str]
    audience: str
    encoding: str
    confirmation: str
    socket: str | None
    at_most: int
    required: int
    terms: Terms
    keep_capabilities: bool


def run(asked: Run, log: Log) -> Ending:
    """Run a workload under a lease; nothing of it is left when this returns.

    The caller has one thread, which is to do nothing but exit afterwards.

    Raises:
        MalformedError: Scope or audience have not their form; nothing was started.
    """
    try:
        # First of all, and the leash's child takes it back for itself where it has to.
        kernel.forbid_tracing()
        _refuse_shifted_clock()
        occupy_standard_descriptors()
        # Not by ``workload.new_handle``, nor are the variables named by ``localapi.wire``: what is
        # cloned for the leash is to have loaded little (``_load``).
        handle = urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
        terminal = Terminal()
        leash = lay(_wanted(asked, handle, terminal), _load)
    except (LeashError, TimeNamespaceError, OSError) as exc:
        return Ending(Reason.LEASH, RunExit.LEASH, f"the leash cannot be laid: {exc}")
    try:
        return _leashed(asked, leash, terminal, handle, log)
    except OSError as exc:
        return Ending(Reason.LEASH, RunExit.LEASH, f"the guard failed: {exc}")
    finally:
        kill_all(leash)


def _load() -> None:
    # The slowest part of a start: done while the leash comes up in a process of its own, which
    # was cloned from one that had little.
    import bootlease.leash.feed  # noqa: PLC0415 - see above
    import bootlease.leash.guard  # noqa: F401, PLC0415 - the same


def _leashed(asked: Run, leash: LaidLeash, terminal: Terminal, handle: str, log: Log) -> Ending:
    level = stated(
        namespace=leash.hold is Hold.NAMESPACE,
        cgroup=leash.group is not None,
        expiring_key=asked.confirmation == _EXPIRING,
    )
    if level < asked.required or (asked.terms.freeze and leash.group is None):
        return _too_weak(asked, leash, level)
    _caution(leash, log)
    log.note("laid", f"leashed at level {level.value}", level=level.value, leash=leash.pid)
    return _guarded(asked, leash, terminal, level, handle, log=log)


def _refuse_shifted_clock() -> None:
    offsets = Path("/proc/self/timens_offsets")
    refuse_time_namespace(offsets.read_text() if offsets.exists() else "")


def _wanted(asked: Run, handle: str, terminal: Terminal) -> Wanted:
    environment = {**os.environ, "BOOTLEASE_LEASE": handle}
    if asked.socket:
        environment["BOOTLEASE_WORKLOAD_SOCKET"] = os.path.abspath(asked.socket)  # noqa: PTH100 - links stay
    return Wanted(
        command=list(asked.command),
        environment=environment,
        terminal=terminal.fd,
        foreground=terminal.ours,
        at_most=asked.at_most,
        keep_capabilities=asked.keep_capabilities,
    )


def _caution(leash: LaidLeash, log: Log) -> None:
    if leash.hold is Hold.SWEEP:
        log.note("level", _SWEEP_CAVEAT)
    elif leash.hold is Hold.CONTAINER:
        log.note("level", _CONTAINER_CAVEAT)
    for words in leash.lacking:
        log.note("lacking", words)


def _too_weak(asked: Run, leash: LaidLeash, level: Level) -> Ending:
    wanted = f"level {asked.required} is required"
    if level >= asked.required:
        wanted = "--freeze needs a cgroup, which level 2 has"
    why = "; ".join(leash.lacking) or f"--level {asked.at_most} allows no more"
    if asked.required == Level.EXPIRING_KEY and leash.hold is Hold.NAMESPACE:
        why = f"level 3 takes --confirmation {_EXPIRING}"
    words = f"nothing was started: {wanted}, and this is level {level.value}: {why}"
    return Ending(Reason.LEVEL, RunExit.LEVEL, words)


def _guarded(
    asked: Run, leash: LaidLeash, terminal: Terminal, level: Level, handle: str, *, log: Log
) -> Ending:
    from bootlease.leash.feed import Feed  # noqa: PLC0415 - as in _load
    from bootlease.leash.guard import Guard  # noqa: PLC0415 - the same
    from bootlease.localapi import LeaseAsk  # noqa: PLC0415 - the same
    from bootlease.workload import LeaseStream, WorkloadClient  # noqa: PLC0415 - the same

    client = WorkloadClient(asked.socket)
    try:
        LeaseAsk(tuple(asked.scope), asked.audience, handle)
    except ValueError as exc:
        raise MalformedError(str(exc)) from exc

    def ask() -> LeaseStream:
        return client.lease(
            asked.scope,
            asked.audience,
            encoding=asked.encoding,
            confirmation=asked.confirmation,
            level=level.value,
            handle=handle,
        )

    ending = Guard(leash, Feed(ask), terminal, terms=asked.terms, log=log).run()
    if ending.reason in {Reason.NOT_FOUND, Reason.NOT_EXECUTABLE}:
        return replace(
            ending, message=f"{legible(asked.command[0], at_most=_MAX_SHOWN)}: {ending.message}"
        )
    return ending
