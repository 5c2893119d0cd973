"""Does this machine have what a configuration speaks of? Nothing is made or changed.

The agent's user is the owner of its state folder, where there is one; else who looks. A problem is
what the agent would not start with, or a rule that speaks of nobody; a warning is what may be
meant. Not looked at: what the agent's user may read where root looks, the TPM beyond its path, and
cgroups, which come and go.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootlease.errors import MalformedError, TransportError
from bootlease.eventlog import parse_event_log
from bootlease.node.files import reason
from bootlease.node.logs import EventLogFile, kernel_log_of
from bootlease.node.service.config import AgentConfig, NodeConfig, UnixAddress
from bootlease.node.workloads.binding import check_folder
from bootlease.node.workloads.rules import Rule

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_EXECUTABLE: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that somebody should know.

    Attributes:
        text: What, in one line.
        problem: It will not do; otherwise a warning.
    """

    text: str
    problem: bool = True


def agent_user(state: Path) -> int:
    """Return the user that the agent with this state folder runs as, as far as can be seen."""
    try:
        return state.stat().st_uid
    except OSError:
        return os.geteuid()


def survey(config: AgentConfig) -> Iterator[Remark]:
    """Yield what does not fit between a configuration and this machine."""
    uid = agent_user(config.node.state)
    yield from _tpm(config.node.tcti)
    yield from _event_log(config.node)
    yield from _state(config.node.state, uid)
    if config.api is not None:
        yield from _socket(config.api.socket, uid)
    if isinstance(config.metrics, UnixAddress):
        yield from _socket(config.metrics.path, uid)
    if config.node.ima_list is not None:
        yield from _readable(config.node.ima_list)
    for keep in config.keep:
        for path in (keep.token_file, keep.key_file):
            if path is not None:
                yield from _kept(path)
    for rule in config.rules.rules:
        yield from _rule(rule)


def user_name(uid: int) -> str:
    """Return a user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _tpm(tcti: str) -> Iterator[Remark]:
    kind, _, rest = tcti.partition(":")
    path = rest.removeprefix("path=")
    if kind in {"device", "swtpm"} and path.startswith("/"):
        try:
            Path(path).stat()
        except FileNotFoundError:
            yield Remark(f"no TPM at {path} (tcti under [node])")
        except OSError as exc:
            yield Remark(f"TPM at {path}: {reason(exc)}")


def _event_log(node: NodeConfig) -> Iterator[Remark]:
    if node.log is not None:
        try:
            parse_event_log(EventLogFile(node.log).read())
        except TransportError as exc:
            yield Remark(str(exc))
        except MalformedError as exc:
            yield Remark(f"{node.log} is not a TCG event log: {exc}")
        return
    missing = f"the kernel keeps no event log for the TPM at {node.tcti}"
    if node.tcti.startswith("device"):
        path = kernel_log_of(node.tcti).path
        # Whether it may be read is for the agent's user and its capabilities to say.
        if _may_be_there(path):
            return
        missing = f"no event log at {path}"
    yield Remark(f"{missing}; log under [node] names another file")


def _may_be_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True


def _state(state: Path, uid: int) -> Iterator[Remark]:
    try:
        found = state.stat()
    except FileNotFoundError:
        yield _not_there(state, "state folder")
        return
    except OSError as exc:
        yield Remark(f"state folder {state}: {reason(exc)}")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield Remark(f"state folder {state}: is not a folder")
        return
    if os.geteuid() not in {0, uid}:
        yield Remark(
            f"state folder {state}: belongs to {user_name(uid)}, and you are"
            f" {user_name(os.geteuid())}: check as the user that the agent runs as"
        )
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        close = f"chmod 700 {shlex.quote(str(state))}"
        yield Remark(f"state folder {state}: is open to other users: {close}")


def _not_there(folder: Path, what: str) -> Remark:
    above = next(parent for parent in folder.parents if parent.exists())
    if not above.is_dir():
        return Remark(f"{what} {folder}: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        return Remark(f"{what} {folder}: is not there, and {above} may not be written to")
    return Remark(
        f"{what} {folder}: is not there yet; the agent or systemd makes it", problem=False
    )


def _socket(path: Path, uid: int) -> Iterator[Remark]:
    folder = path.parent
    try:
        if not folder.exists():
            if not folder.parent.is_dir():
                yield Remark(f"socket {path}: {folder.parent} is not a folder")
            else:
                yield _not_there(folder, "socket's folder")
            return
        check_folder(folder, uid)
        if path.exists() and not path.is_socket():
            yield Remark(f"socket {path}: something else is there, and would be left alone")
    except TransportError as exc:
        yield Remark(f"socket {path}: {exc}")
    except OSError as exc:
        yield Remark(f"socket {path}: {reason(exc)}")


def _kept(path: Path) -> Iterator[Remark]:
    try:
        if not path.parent.is_dir():
            yield Remark(f"{path}: {path.parent} is not a folder")
    except OSError as exc:
        yield Remark(f"{path}: {reason(exc)}")


def _readable(path: Path) -> Iterator[Remark]:
    try:
        with path.open("rb"):
            pass
    except OSError as exc:
        yield Remark(f"cannot read {path}: {reason(exc)}")


def _rule(rule: Rule) -> Iterator[Remark]:
    if rule.uids is None:
        yield Remark(
            f"rule {rule.name} names no user: it speaks of everybody's processes, of those in"
            " containers and user namespaces too",
            problem=False,
        )
    if rule.exe is None:
        return
    missing = [(path, why) for path in rule.exe if (why := _no_program(path)) is not None]
    # Several are named where machines differ: one that is there is enough.
    nobody = len(missing) == len(rule.exe)
    for path, why in missing:
        yield Remark(f"rule {rule.name}: program {path}: {why}", problem=nobody)
    if nobody:
        yield Remark(f"rule {rule.name} speaks of nobody: none of its programs is there")


def _no_program(path: str) -> str | None:
    try:
        found = Path(path).stat()
    except OSError as exc:
        return reason(exc)
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & _EXECUTABLE:
        return "is no program"
    if _is_script(path):
        return "is a script: the kernel runs its interpreter, which is the program to name"
    return None


def _is_script(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        # A program may be executed by those who may not read it; a script not.
        return False
