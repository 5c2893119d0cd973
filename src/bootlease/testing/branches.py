"""A workload that grows every kind of tree which is hard to fell.

Run by path (``python -I -S branches.py KIND...``): it needs the standard library only, so that a
tree stands within milliseconds. Each kind is a branch of its own; ``KIND*3`` are three. Once all
have grown, it writes the line ``ready`` to stdout and waits to be ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

_NOBODY: Final = 65534
_FOREVER: Final = 3600.0
_RETRY: Final = 0.02
_MEGABYTE: Final = 1 << 20
_PTRACE_TRACEME: Final = 0
_BROKEN: Final = b"!"
_BROKE: Final = 70
_GREEDY: Final = frozenset({"fork-bomb", "memory"})

_WAIT_FOR_EVER: Final = {
    # pause(2) in a loop
    "x86_64": (62, bytes.fromhex("b8220000000f05ebf7")),
    # ppoll(NULL, 0, NULL, NULL) in a loop
    "aarch64": (183, bytes.fromhex("000080d2010080d2020080d2030080d2280980d2010000d4faffff17")),
}
"""Machine and code of a program that needs no loader and no library."""


def static_program() -> bytes:
    """Return a statically linked ELF executable that waits for ever."""
    machine, code = _WAIT_FOR_EVER[platform.machine()]
    address, headers = 0x400000, 64 + 56
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, address + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    size = headers + len(code)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, address, address, size, size, 0x1000)
    return identity + header + segment + code


def _wait() -> NoReturn:
    while True:
        time.sleep(_FOREVER)


def _plain(_: int) -> None:
    """Only be there."""


def _daemon(_: int) -> None:
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)


def _double_fork(_: int) -> None:
    os.setsid()
    if os.fork():
        os._exit(0)


def _stopped(grown: int) -> None:
    os.write(grown, b".")
    os.kill(os.getpid(), signal.SIGSTOP)
    _wait()


def _traced(grown: int) -> None:
    ctypes.CDLL(None).ptrace(_PTRACE_TRACEME, 0, 0, 0)
    _stopped(grown)


def _deaf(_: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)


def _busy(grown: int) -> None:
    os.write(grown, b".")
    while True:
        pass


def _threads(_: int) -> None:
    for _ in range(4):
        threading.Thread(target=_wait, daemon=True).start()


def _closed(grown: int) -> None:
    os.write(grown, b".")
    os.closerange(0, 1 << 12)
    _wait()


def _setuid(_: int) -> None:
    # A user namespace may have nobody else to become.
    with contextlib.suppress(OSError):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _setuid_file(grown: int) -> None:
    path = _own_program(0o4755, owner=_NOBODY)
    os.write(grown, b".")
    os.execv(path, [path])  # noqa: S606 - that is the point


def _static(grown: int) -> None:
    path = _own_program(0o755)
    os.write(grown, b".")
    # Without an environment, too: what knows a tree by it must not lose this one.
    os.execve(path, [path], {})  # noqa: S606 - that is the point


def _nested(grown: int) -> None:
    os.write(grown, b".")
    inner = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "sleep", "3600"]
    os.execvp(inner[0], inner)  # noqa: S606 - that is the point


def _fork_bomb(grown: int) -> None:
    os.write(grown, b".")
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(_RETRY)


def _memory(grown: int) -> None:
    os.write(grown, b".")
    while True:
        if (pid := os.fork()) == 0:
            held = []
            while True:
                held.append(bytearray(b".") * _MEGABYTE)
        os.waitpid(pid, 0)
        time.sleep(_RETRY)


KINDS: Final[dict[str, Callable[[int], None]]] = {
    "plain": _plain,
    "daemon": _daemon,
    "double-fork": _double_fork,
    "stopped": _stopped,
    "traced": _traced,
    "deaf": _deaf,
    "busy": _busy,
    "threads": _threads,
    "closed": _closed,
    "setuid": _setuid,
    "setuid-file": _setuid_file,
    "static": _static,
    "nested": _nested,
    "fork-bomb": _fork_bomb,
    "memory": _memory,
}
"""What a branch does before it waits; it tells ``grown`` itself where it never comes back."""


def _grow(kind: str, grown: int) -> None:
    if os.fork():
        return
    try:
        KINDS[kind](grown)
        os.write(grown, b".")
    except BaseException as exc:  # noqa: BLE001 - a forked child must not return to its caller
        os.write(2, f"branches: {kind}: {exc!r}\n".encode())
        os.write(grown, _BROKEN)
        os._exit(_BROKE)
    _wait()


def _own_program(mode: int, owner: int | None = None) -> str:
    folder = Path(tempfile.mkdtemp(prefix="bootlease-branch-", dir=os.environ.get("BRANCHES")))
    folder.chmod(0o755)
    path = folder / "static"
    path.write_bytes(static_program())
    if owner is not None:
        with contextlib.suppress(OSError):
            os.chown(path, owner, owner)
    path.chmod(mode)
    return str(path)


def command(*kinds: str) -> list[str]:
    """Return how to run this with these branches."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *kinds]


def main(kinds: list[str]) -> NoReturn:
    """Grow a tree, say so, and wait."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seen, grown = os.pipe()
    # What leaves no room for others comes last.
    for each in sorted(kinds, key=lambda each: each in _GREEDY):
        kind, _, times = each.partition("*")
        for _ in range(int(times or 1)):
            _grow(kind, grown)
            if os.read(seen, 1) == _BROKEN:
                sys.exit(_BROKE)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    _wait()


if __name__ == "__main__":
    main(sys.argv[1:])
