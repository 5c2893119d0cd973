"""The socket: made where nobody else can put one, replaced only where nobody listens."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from bootlease.errors import TransportError
from bootlease.node.workloads.binding import MAX_PATH, adopt, listen

if TYPE_CHECKING:
    from pathlib import Path


def test_a_socket_is_made_and_removed(tmp_path: Path) -> None:
    """With the mode and group that were asked for, in a folder that is made if need be."""
    path = tmp_path / "run" / "socket"
    listener = listen(path, mode=0o660, gid=os.getegid())
    found = path.lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_gid == os.getegid()
    assert not os.get_inheritable(listener.socket.fileno())
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()
    assert not path.exists()


def test_what_an_agent_left_behind_is_replaced(tmp_path: Path) -> None:
    """It was killed, and nobody listens."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    listener = listen(path, mode=0o666)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_an_agent_that_listens_is_left_alone(tmp_path: Path) -> None:
    """Two agents do not take turns."""
    path = tmp_path / "socket"
    first = listen(path, mode=0o666)
    with pytest.raises(TransportError, match="another agent listens"):
        listen(path, mode=0o666)
    # Nor one that is too busy to answer.
    waiting = []
    for _ in range(200):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)  # noqa: FBT003
        client.connect_ex(str(path))
        waiting.append(client)
    with pytest.raises(TransportError, match="another agent listens"):
        listen(path, mode=0o666)
    for client in waiting:
        client.close()
    first.close()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    """A link too, wherever it leads."""
    path, other = tmp_path / "socket", tmp_path / "other"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(other)
        if kind == "link":
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(other))
    with pytest.raises(TransportError, match="left alone"):
        listen(path, mode=0o666)
    assert path.lstat()


def test_the_next_agents_socket_is_not_removed(tmp_path: Path) -> None:
    """An agent that stops late takes away only what is its own."""
    path = tmp_path / "socket"
    first = listen(path, mode=0o666)
    path.unlink()
    second = listen(path, mode=0o666)
    first.close()
    assert path.exists()
    second.close()


def test_a_folder_where_others_may_write_is_refused(tmp_path: Path) -> None:
    """They could put a socket of theirs in its place; so could who may write further up."""
    folder = tmp_path / "open" / "inner"
    folder.mkdir(parents=True)
    for where, mode in ((folder, 0o777), (folder, 0o770), (folder, 0o1777), (folder.parent, 0o777)):
        where.chmod(mode)
        with pytest.raises(TransportError, match="others may"):
            listen(folder / "socket", mode=0o666)
        where.chmod(0o755)
    (tmp_path / "way").symlink_to(folder)
    folder.chmod(0o777)
    with pytest.raises(TransportError, match="others may"):
        listen(tmp_path / "way" / "socket", mode=0o666)
    folder.chmod(0o755)
    listen(tmp_path / "way" / "socket", mode=0o666).close()


@pytest.mark.root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its owner may write there whenever he likes."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 12345, -1)
    with pytest.raises(TransportError, match="others may"):
        listen(folder / "socket", mode=0o666)


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    """Too long, or in a folder that cannot be made."""
    with pytest.raises(TransportError, match="at most"):
        listen(tmp_path / ("x" * MAX_PATH), mode=0o666)
    with pytest.raises(TransportError, match="cannot listen"):
        listen(tmp_path / "a" / "b" / "socket", mode=0o666)
    with pytest.raises(TransportError, match="cannot listen"):
        listen(tmp_path / "socket", mode=0o666, gid=2**32 - 2) if os.geteuid() else _fail(tmp_path)


def _fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    listen(tmp_path / "file" / "socket", mode=0o666)


def test_a_socket_that_was_handed_in_is_taken_over(tmp_path: Path) -> None:
    """It stays in the file system: it is its maker's."""
    path = tmp_path / "socket"
    given = socket.socket(socket.AF_UNIX)
    given.bind(str(path))
    given.listen()
    listener = adopt(given)
    listener.close()
    assert path.exists()


def test_what_does_not_listen_is_not_taken_over() -> None:
    """Nor what is no Unix stream socket."""
    with socket.socket(socket.AF_UNIX) as silent, pytest.raises(TransportError):
        adopt(silent)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(TransportError):
            adopt(other)
