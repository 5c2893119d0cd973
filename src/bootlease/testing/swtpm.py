"""A running swtpm on Unix sockets in a private folder.

Specifications: swtpm 0.7 ``swtpm(8)`` and ``swtpm_ioctls(3)`` (control channel); tpm2-tss 3.2
``tss2-tcti-swtpm(7)`` (``path=`` names the data socket, ``<path>.ctrl`` the control socket).

Deliberately not handled: TCP sockets and CUSE devices (a fixed port or device name collides with
the next TPM), encrypted state, TPM 1.2.
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootlease.errors import TransportError

_STATE_FILE: Final = "tpm2-00.permall"
_VOLATILE_FILE: Final = "tpm2-00.volatilestate"
_START_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.002
_CONTROL_SECONDS: Final = 20.0
_SUN_PATH_BYTES: Final = 108
"""``sizeof(sockaddr_un.sun_path)``; a longer socket path cannot be bound."""

# The guard outlives whoever started the TPM, also after SIGKILL: standard input ends with the
# starter, and the guard then ends the TPM and removes the sockets. Standard output is passed to
# the TPM as descriptor 3 and stays open as long as it runs, so that the starter notices a TPM
# that died. A guard that is itself killed takes the TPM along (PDEATHSIG).
_GUARD: Final = """
folder=$1; shift
setpriv --pdeathsig KILL -- "$@" </dev/null 3>&1 >"$folder/log" 2>&1 &
exec >&-
read -r _
kill -TERM $! 2>/dev/null
wait
rm -rf -- "$folder"
"""


class _Control(enum.IntEnum):
    """Commands of swtpm's control channel (``tpm_ioctl.h``)."""

    GET_CAPABILITY = 1
    INIT = 2
    SET_LOCALITY = 5
    STORE_VOLATILE = 10
    STOP = 14


_INIT_KEEP_VOLATILE: Final = struct.pack(">I", 0)
_INIT_DELETE_VOLATILE: Final = struct.pack(">I", 1)
_TPM2_STARTUP_CLEAR: Final = bytes.fromhex("80010000000c000001440000")
_TPM2_STARTUP_STATE: Final = bytes.fromhex("80010000000c000001440001")
_TPM2_SHUTDOWN_CLEAR: Final = bytes.fromhex("80010000000c000001450000")


@dataclass(frozen=True, slots=True)
class SoftwareTPMState:
    """A switched-off TPM: the folder that holds everything it remembers.

    Attributes:
        directory: Folder with swtpm's state file.
    """

    directory: Path

    @property
    def live(self) -> bool:
        """The state holds a running TPM with its PCRs, as a virtual machine's snapshot does."""
        return (self.directory / _VOLATILE_FILE).exists()

    def clone(self, directory: Path) -> SoftwareTPMState:
        """Copy the TPM, keys and counters included, into the new folder ``directory``."""
        directory.mkdir(mode=0o700, parents=True)
        for name in (_STATE_FILE, _VOLATILE_FILE):
            if (self.directory / name).exists():
                shutil.copyfile(self.directory / name, directory / name)
        return SoftwareTPMState(directory)


class SoftwareTPM:
    """A running swtpm.

    Attributes:
        state: Where the TPM keeps its state.
        tcti: How tpm2-tss reaches it, for tpm2-pytss and ``tpm2_* -T``.
    """

    def __init__(self, state: SoftwareTPMState) -> None:
        """Start swtpm on ``state``; prefer :func:`swtpm_process`.

        Raises:
            TransportError: swtpm is not installed, or did not start.
        """
        _require("swtpm")
        _require("setpriv")
        self.state = state
        self._folder = _private_folder()
        self._socket = self._folder / "tpm"
        self.tcti = f"swtpm:path={self._socket}"
        self._guard, self._alive = _start(self._folder, self._socket, state)
        try:
            self._wait_until_reachable()
        except BaseException:
            self.close()
            raise

    @property
    def guard_pid(self) -> int:
        """Process id of the guard, whose only child is the TPM."""
        return self._guard.pid

    @property
    def folder(self) -> Path:
        """The private folder of the sockets; it goes when the TPM ends."""
        return self._folder

    def reboot(self, *, orderly: bool = True, locality: int = 0) -> None:
        """Cycle the power: PCRs are reset, resetCount rises by one.

        Args:
            orderly: Announce it with TPM2_Shutdown first, as an operating system does; without
                it the clock is not safe afterwards.
            locality: Locality of TPM2_Startup; 3 is a platform that starts its TPM from there.
        """
        if orderly:
            self._command(_TPM2_SHUTDOWN_CLEAR)
        self._control(_Control.INIT, _INIT_DELETE_VOLATILE)
        self._startup(locality)

    def resume(self) -> None:
        """Power up after TPM2_Shutdown(STATE), as after suspend to memory: restartCount rises."""
        self._control(_Control.INIT, _INIT_DELETE_VOLATILE)
        self._command(_TPM2_STARTUP_STATE)

    def snapshot(self, directory: Path, *, live: bool = False) -> SoftwareTPMState:
        """Copy the state of the running TPM into the new folder ``directory``.

        Args:
            directory: Must not exist.
            live: Take the PCRs along, as the snapshot of a virtual machine does; otherwise the
                copy is what lies in the TPM's non-volatile memory.
        """
        if live:
            self._control(_Control.STORE_VOLATILE)
        try:
            return self.state.clone(directory)
        finally:
            (self.state.directory / _VOLATILE_FILE).unlink(missing_ok=True)

    def restore(self, state: SoftwareTPMState) -> None:
        """Put the TPM back to ``state``; a live one goes on without a reset (attack A23)."""
        self._control(_Control.STOP)
        for name in (_STATE_FILE, _VOLATILE_FILE):
            (self.state.directory / name).unlink(missing_ok=True)
            if (state.directory / name).exists():
                shutil.copyfile(state.directory / name, self.state.directory / name)
        self._control(_Control.INIT, _INIT_KEEP_VOLATILE)
        (self.state.directory / _VOLATILE_FILE).unlink(missing_ok=True)
        if not state.live:
            self._startup(locality=0)

    def close(self) -> None:
        """End the TPM and remove its sockets; the state folder stays."""
        if self._alive < 0:
            return
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        try:
            self._guard.wait(timeout=_START_SECONDS)
        except subprocess.TimeoutExpired:
            # The kernel ends the TPM with its guard.
            self._guard.kill()
            self._guard.wait()
        os.close(self._alive)
        self._alive = -1
        # The guard did this, unless it was killed itself.
        shutil.rmtree(self._folder, ignore_errors=True)

    def _startup(self, locality: int) -> None:
        if locality:
            self._control(_Control.SET_LOCALITY, bytes([locality]))
        self._command(_TPM2_STARTUP_CLEAR)
        if locality:
            self._control(_Control.SET_LOCALITY, bytes([0]))

    def _command(self, command: bytes) -> None:
        with _connect(self._socket) as channel:
            channel.sendall(command)
            answer = channel.recv(4096)
        if len(answer) < len(b"\0" * 10) or answer[6:10] != bytes(4):
            raise TransportError(f"swtpm refused a power command: {answer.hex() or 'no answer'}")

    def _control(self, command: _Control, body: bytes = b"") -> None:
        with _connect(self._folder / "tpm.ctrl") as channel:
            channel.sendall(struct.pack(">I", command) + body)
            answer = channel.recv(4096)
        if answer[:4] != bytes(4):
            raise TransportError(
                f"swtpm refused the control command {command.name}: {answer.hex() or 'no answer'}"
            )

    def _wait_until_reachable(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                # Its sockets are there before it has locked its state and started its TPM; an
                # answer is not.
                answered = self._answers()
                _connect(self._socket).close()
            except OSError:
                answered = False
            if answered:
                return
            if select.select([self._alive], [], [], _POLL_SECONDS)[0]:
                break
        raise TransportError(f"swtpm did not start on {self.state.directory}: {self._log()}")

    def _answers(self) -> bool:
        with _connect(self._folder / "tpm.ctrl") as channel:
            channel.sendall(struct.pack(">I", _Control.GET_CAPABILITY))
            return bool(channel.recv(64))

    def _log(self) -> str:
        try:
            text = (self._folder / "log").read_text(errors="replace")
        except OSError as exc:
            return f"no log ({exc})"
        return " ".join(text.split()) or "it said nothing"


@contextlib.contextmanager
def swtpm_process(state: SoftwareTPMState) -> Iterator[SoftwareTPM]:
    """Run swtpm on ``state`` for the length of a ``with`` block.

    It ends with the block, and also when this process ends in any way, SIGKILL included.

    Raises:
        TransportError: swtpm is not installed, or did not start.
    """
    tpm = SoftwareTPM(state)
    try:
        yield tpm
    finally:
        tpm.close()


def _start(
    folder: Path, data_socket: Path, state: SoftwareTPMState
) -> tuple[subprocess.Popen[bytes], int]:
    startup = "not-need-init" if state.live else "not-need-init,startup-clear"
    command = [
        "swtpm", "socket", "--tpm2",
        "--tpmstate", f"dir={state.directory},mode=0600",
        "--server", f"type=unixio,path={data_socket},mode=0600",
        "--ctrl", f"type=unixio,path={data_socket}.ctrl,mode=0600",
        "--flags", startup,
    ]  # fmt: skip
    alive, held_by_tpm = os.pipe()
    try:
        guard = subprocess.Popen(  # noqa: S603  arguments are this module's own
            ["/bin/sh", "-c", _GUARD, "bootlease-swtpm", str(folder), *command],
            stdin=subprocess.PIPE,
            stdout=held_by_tpm,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except BaseException:
        os.close(alive)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(held_by_tpm)
    return guard, alive


def _private_folder() -> Path:
    longest = len("/tpm.ctrl") + 1
    folder = Path(tempfile.mkdtemp(prefix="bl-tpm-"))
    if len(os.fsencode(folder)) + longest > _SUN_PATH_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="bl-tpm-", dir="/tmp"))
    return folder


def _connect(path: Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX)
    channel.settimeout(_CONTROL_SECONDS)
    deadline = time.monotonic() + _CONTROL_SECONDS
    try:
        while True:
            try:
                channel.connect(os.fspath(path))
            except BlockingIOError:
                # swtpm lets one connection wait; while it does, a socket with a time-out is told
                # to come back instead of being made to wait.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return channel
    except OSError:
        channel.close()
        raise


def _require(program: str) -> None:
    if shutil.which(program) is None:
        raise TransportError(
            f"{program} is not installed; on Debian: apt install swtpm swtpm-tools util-linux"
        )
