"""What the agent says to a service manager, and what it takes from one."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from bootlease.errors import TransportError
from bootlease.node.service import notify
from bootlease.node.service.notify import ServiceManager, passed_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager that listens, and its address."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        yield manager, address


def test_messages(listening: tuple[socket.socket, str]) -> None:
    """Each state is told in sd_notify's words, one datagram each."""
    manager, address = listening
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "HOME": "/"}
    told = ServiceManager.from_environment(environment)
    assert environment == {"HOME": "/"}
    assert told.watchdog == 3.0
    told.ready()
    told.status("one\nline")
    told.status("one line")
    told.reloading()
    told.alive()
    told.stopping()
    heard = [manager.recv(4096).decode() for _ in range(5)]
    assert heard[:2] == ["READY=1", "STATUS=one line"]
    assert heard[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert heard[3:] == ["WATCHDOG=1", "STOPPING=1"]


def test_abstract_address() -> None:
    """An address that begins with @ is an abstract one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0bootlease-test-{os.getpid()}")
        manager.settimeout(5)
        ServiceManager(f"@bootlease-test-{os.getpid()}").ready()
        assert manager.recv(100) == b"READY=1"


def test_nobody_listens(tmp_path: Path) -> None:
    """Without a manager, or with one that is gone, nothing happens."""
    ServiceManager().ready()
    ServiceManager(str(tmp_path / "gone")).ready()


@pytest.mark.parametrize(
    ("environment", "watchdog"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
    ],
)
def test_whose_watchdog(environment: dict[str, str], watchdog: float | None) -> None:
    """A watchdog counts where it has a period and means this process."""
    assert ServiceManager.from_environment(environment).watchdog == watchdog


def test_sockets_of_another_process() -> None:
    """Descriptors that were meant for another process are left alone."""
    assert passed_sockets({}) == {}
    assert passed_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == {}
    assert passed_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}) == {}


def meant(count: int, names: str) -> dict[str, str]:
    """Return the environment that hands over so many descriptors."""
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}


def test_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listening socket is taken by its name, and no child inherits it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        copy = os.dup(listener.fileno())
        os.set_inheritable(copy, True)  # noqa: FBT003 - the standard library's way
        monkeypatch.setattr(notify, "_FIRST_DESCRIPTOR", copy)
        environment = meant(1, "workload")
        (taken,) = passed_sockets(environment).items()
        assert environment == {}
    with taken[1] as made:
        assert taken[0] == "workload"
        assert not made.get_inheritable()
        assert made.getsockname() == str(tmp_path / "s")


def test_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, a socket of the network, or one that does not listen, is not taken."""
    for made in (
        (tmp_path / "file").open("w"),
        socket.socket(socket.AF_UNIX),
        socket.create_server(("127.0.0.1", 0)),
    ):
        copy = os.dup(made.fileno())
        made.close()
        monkeypatch.setattr(notify, "_FIRST_DESCRIPTOR", copy)
        with pytest.raises(TransportError, match="no listening socket"):
            passed_sockets(meant(1, "workload"))
