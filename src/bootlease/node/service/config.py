"""The agent's configuration: one TOML file. docs/agent.md is its reference.

    schema = 1
    [verifier]    bundle; unsafe_plain_http
    [node]        tcti, state, ek_algorithm, ak_algorithm, log, ima_list, max_leases
    [api]         socket, mode, group: without this table there is no Workload API
    [metrics]     listen: without this table there are none
    [log]         format ("text" or "json")
    [[keep]]      scope, audience, encoding, confirmation, token_file, key_file
    [[workload]]  who may ask the Workload API for what (``workloads.rules``)

An unknown key, a missing one or a wrong value is an error that names line and key. What is left out
has the default that the option of ``bootlease node run`` has.
"""

from __future__ import annotations

import dataclasses
import grp
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootlease.errors import MalformedError
from bootlease.evidence import TokenEncoding
from bootlease.evidence.request import MAX_LEASES
from bootlease.node.confirm import Confirmation
from bootlease.node.logline import LogFormat
from bootlease.node.tables import Table, parse_tables
from bootlease.node.tpm.key_kinds import AKAlgorithm, EKAlgorithm
from bootlease.node.wish import LeaseWish
from bootlease.node.workloads.rules import Rules, parse_rules

MAX_CONFIG: Final = 1024 * 1024
DEFAULT_TCTI: Final = "device:/dev/tpmrm0"
DEFAULT_STATE: Final = "/var/lib/bootlease"
DEFAULT_SOCKET: Final = "/run/bootlease/workload.sock"
_SCHEMA: Final = 1
_MAX_SOCKET: Final = 107
"""Bytes of a Unix socket's path (sun_path, without its final NUL)."""
_MODE: Final = re.compile(r"0[0-7]{3}", re.ASCII)
_LOOPBACK: Final = re.compile(r"(127(?:\.[0-9]{1,3}){3}|\[::1\]):([0-9]{1,5})", re.ASCII)
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """This machine: its TPM, its logs, where the agent remembers.

    Attributes:
        tcti: How tpm2-tss reaches the TPM.
        state: The agent's directory.
        ek_algorithm: Endorsement key to enrol.
        ak_algorithm: Kind of attestation key.
        log: Event log in place of the kernel's.
        ima_list: IMA list in place of the kernel's.
        max_leases: Leases at once at most.
    """

    tcti: str
    state: Path
    ek_algorithm: EKAlgorithm | None
    ak_algorithm: AKAlgorithm | None
    log: Path | None
    ima_list: Path | None
    max_leases: int


@dataclass(frozen=True, slots=True)
class APIConfig:
    """The Workload API.

    Attributes:
        socket: Where it listens, unless systemd hands a socket over.
        mode: Permissions of the socket.
        gid: Group of the socket; None for the agent's.
    """

    socket: Path
    mode: int
    gid: int | None


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class LoopbackAddress:
    """A TCP port of this machine alone."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Keep:
    """A standing wish.

    Attributes:
        wish: What is wished for.
        confirmation: Where its key lives.
        token_file: Where its token goes.
        key_file: Where its key goes.
    """

    wish: LeaseWish
    confirmation: Confirmation
    token_file: Path | None
    key_file: Path | None


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything an agent is told.

    Attributes:
        bundle: The join bundle's file.
        unsafe_plain_http: A verifier over a network without TLS is allowed.
        node: This machine.
        api: The Workload API, if there is one.
        metrics: Where metrics are served, if anywhere.
        log_format: How log lines are written.
        keep: Standing wishes.
        rules: Who may ask the Workload API for what.
    """

    bundle: Path
    unsafe_plain_http: bool
    node: NodeConfig
    api: APIConfig | None
    metrics: UnixAddress | LoopbackAddress | None
    log_format: LogFormat
    keep: tuple[Keep, ...]
    rules: Rules


LIVE: Final = frozenset({"log_format", "keep", "rules"})
"""What a reload changes; all else takes a restart."""


def parse_config(data: bytes) -> AgentConfig:
    """Parse a configuration.

    Raises:
        MalformedError: It is none of this schema; the message names line and key.
    """
    if len(data) > MAX_CONFIG:
        raise MalformedError(f"is longer than {MAX_CONFIG} bytes")
    file = parse_tables(data)
    file.integer("schema", at_least=_SCHEMA, at_most=_SCHEMA)
    verifier = file.table("verifier")
    node = _node(file.table("node"))
    keep = tuple(map(_keep, file.tables("keep")))
    config = AgentConfig(
        bundle=verifier.path("bundle"),
        unsafe_plain_http=verifier.flag("unsafe_plain_http", default=False),
        node=node,
        api=_api(file.table("api")) if file.has("api") else None,
        metrics=_metrics(file.table("metrics")) if file.has("metrics") else None,
        log_format=_log(file.table("log")),
        keep=keep,
        rules=parse_rules(file.tables("workload"), room=node.max_leases - len(keep)),
    )
    verifier.end()
    file.end()
    _check_files(config, file)
    if config.api is None and not config.keep:
        raise MalformedError("neither [api] nor [[keep]]: the agent would have nothing to do")
    return config


def takes_restart(old: AgentConfig, new: AgentConfig) -> tuple[str, ...]:
    """Return the names of what differs and cannot be changed while the agent runs."""
    changed = []
    for field in dataclasses.fields(AgentConfig):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if field.name in LIVE or before == after:
            continue
        if isinstance(before, NodeConfig) and isinstance(after, NodeConfig):
            names = [each.name for each in dataclasses.fields(NodeConfig)]
            changed += [
                f"node.{name}" for name in names if getattr(before, name) != getattr(after, name)
            ]
        else:
            changed.append(_TITLES[field.name])
    return tuple(changed)


_TITLES: Final = {
    "bundle": "verifier.bundle",
    "unsafe_plain_http": "verifier.unsafe_plain_http",
    "api": "api",
    "metrics": "metrics",
}


def _node(table: Table) -> NodeConfig:
    node = NodeConfig(
        tcti=table.text("tcti", DEFAULT_TCTI),
        state=table.path("state", _default_state()),
        ek_algorithm=table.choice("ek_algorithm", EKAlgorithm)
        if table.has("ek_algorithm")
        else None,
        ak_algorithm=table.choice("ak_algorithm", AKAlgorithm)
        if table.has("ak_algorithm")
        else None,
        log=table.optional_path("log"),
        ima_list=table.optional_path("ima_list"),
        max_leases=table.integer("max_leases", MAX_LEASES, at_least=1, at_most=MAX_LEASES),
    )
    table.end()
    return node


def _default_state() -> str:
    # systemd names every directory that it made, with colons between them.
    return os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or DEFAULT_STATE


def _api(table: Table) -> APIConfig:
    mode = table.text("mode", "0666")
    if not _MODE.fullmatch(mode):
        raise table.error("mode", 'is not four octal digits, such as "0660"')
    gid = _group(table) if table.has("group") else None
    api = APIConfig(_socket(table, "socket", DEFAULT_SOCKET), int(mode, 8), gid)
    table.end()
    return api


def _group(table: Table) -> int:
    name = table.text("group")
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as exc:
        raise table.error("group", "is no group of this machine") from exc


def _socket(table: Table, key: str, default: str | None = None) -> Path:
    path = table.path(key, default)
    if len(os.fsencode(path)) > _MAX_SOCKET:
        raise table.error(key, f"is longer than the {_MAX_SOCKET} bytes of a socket's path")
    return path


def _metrics(table: Table) -> UnixAddress | LoopbackAddress:
    text = table.text("listen")
    table.end()
    if text.startswith("/"):
        return UnixAddress(_socket(table, "listen"))
    found = _LOOPBACK.fullmatch(text)
    # Whoever reads metrics learns what runs here and when: that is not for the network.
    if not found or int(found[2]) > _MAX_PORT:
        raise table.error("listen", "is neither a socket's path nor 127.0.0.1:PORT or [::1]:PORT")
    return LoopbackAddress(found[1].strip("[]"), int(found[2]))


def _log(table: Table) -> LogFormat:
    form = table.choice("format", LogFormat, LogFormat.TEXT)
    table.end()
    return form


def _keep(table: Table) -> Keep:
    confirmation = table.choice("confirmation", Confirmation, Confirmation.PROCESS)
    token_file, key_file = table.optional_path("token_file"), table.optional_path("key_file")
    if key_file is not None and confirmation is not Confirmation.PROCESS:
        raise table.error("key_file", "a key in the TPM cannot be written to a file")
    scope, audience = table.texts("scope"), table.text("audience")
    encoding = table.choice("encoding", TokenEncoding, TokenEncoding.CWT)
    table.end()
    try:
        wish = LeaseWish(scope, audience, encoding, optional=True)
    except ValueError as exc:
        raise table.error("", str(exc)) from exc
    return Keep(wish, confirmation, token_file, key_file)


def _check_files(config: AgentConfig, file: Table) -> None:
    seen: set[Path] = set()
    for keep, table in zip(config.keep, file.tables("keep"), strict=True):
        for key, path in (("token_file", keep.token_file), ("key_file", keep.key_file)):
            if path is not None and path in seen:
                raise table.error(key, f"{path} is named twice")
            if path is not None:
                seen.add(path)
    if len(set(config.keep)) != len(config.keep):
        raise file.error("keep", "two tables ask for the same")
