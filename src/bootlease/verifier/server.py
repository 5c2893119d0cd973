"""Running the verifier: address, TLS, signals, housekeeping.

Off loopback the verifier speaks TLS or does not start: without it nobody can read or change
evidence and tokens unnoticed, but anybody could keep a node from its lease, and admin credentials
would travel in the clear.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn

from bootlease.errors import MalformedError, TransportError
from bootlease.ports import Store, StoreBusyError, StoreUnavailableError
from bootlease.verifier.app import build_app
from bootlease.verifier.collector import Collector
from bootlease.verifier.datadir import (
    DATABASE,
    exclusive,
    load_keys,
    make_event_key,
    make_leash_key,
    read_settings,
)
from bootlease.verifier.http_protocol import MAX_HEADERS, protocol_within
from bootlease.verifier.keyfolder import KeyFolder, read_rotations
from bootlease.verifier.keys import Keys
from bootlease.verifier.limits import DEFAULT_LIMITS, Limits
from bootlease.verifier.loglines import log_event, log_to_stderr
from bootlease.verifier.loopback import is_loopback
from bootlease.verifier.securityevents.pushing import flowing
from bootlease.verifier.service import Service, build_service
from bootlease.verifier.setup import OpenStore
from bootlease.verifier.tls import check_pair
from bootlease.verifier.witness_client import WitnessAddress, WitnessClient
from bootlease.verifier.witnesses import Witnessing, witnessed

_HOUSEKEEPING: Final = 15
_GRACE: Final = 5
_BACKLOG: Final = 2048
_OTHER_FILES: Final = 256
"""Descriptors for what is no connection: store, logs, libraries."""
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen.

    Attributes:
        host: IP address or name; empty for a Unix socket.
        port: TCP port, 0 for any free one.
        path: Unix socket, or None.
    """

    host: str
    port: int
    path: Path | None = None

    @property
    def loopback(self) -> bool:
        """Nobody outside this machine reaches it."""
        return self.path is not None or is_loopback(self.host)


def parse_listen(text: str, option: str = "--listen") -> Listen:
    """Parse ``HOST:PORT``, ``[IPV6]:PORT`` or ``unix:PATH``.

    Args:
        text: What was given.
        option: As what, for errors.

    Raises:
        MalformedError: None of them.
    """
    if text.startswith("unix:"):
        if not text[5:]:
            raise MalformedError(f"{option} unix:PATH needs a path")
        return Listen("", 0, Path(text[5:]))
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or len(port) > 5:  # noqa: PLR2004 - digits of a port
        raise MalformedError(f"{option} {text!r} is not HOST:PORT, [IPV6]:PORT or unix:PATH")
    if int(port) > _MAX_PORT:
        raise MalformedError(f"{option} {text!r}: there is no port {port}")
    return Listen(host, int(port))


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve.

    Attributes:
        data: The verifier's folder.
        listen: Where.
        tls_cert: PEM certificate chain, or None for plain HTTP.
        tls_key: Its PEM private key.
        unsafe_plain_http: Serve plain HTTP off loopback all the same.
        witnesses: Who cosigns the ledger's checkpoints.
        require_witness: Do not serve where one of them cannot be reached at the start.
        limits: Bounds.
    """

    data: Path
    listen: Listen
    tls_cert: Path | None = None
    tls_key: Path | None = None
    unsafe_plain_http: bool = False
    witnesses: tuple[WitnessAddress, ...] = ()
    require_witness: bool = False
    limits: Limits = DEFAULT_LIMITS


def serve(options: ServeOptions, open_store: OpenStore) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        options: How.
        open_store: Opens the store in the verifier's folder.

    Raises:
        TransportError: The address is in use, another process serves the folder, or a witness
            that is required cannot be reached.
        MalformedError: Folder, certificate or key cannot be used.
        VerificationError: A witness has seen more of the ledger than the folder holds.
    """
    _demand_tls(options)
    settings = read_settings(options.data)
    keys = load_keys(options.data, settings.issuer)
    log_to_stderr()
    with exclusive(options.data), _bound(options.listen) as listening:
        if keys.events is None:
            make_event_key(options.data)
        make_leash_key(options.data)
        KeyFolder(options.data, settings.issuer).recover()
        keys = load_keys(options.data, settings.issuer)
        store = open_store(options.data / DATABASE, keys.ledger, keys.ledger.key.name)
        try:
            asyncio.run(_serve(options, listening, store, settings.issuer, keys))
        finally:
            store.close()


def _demand_tls(options: ServeOptions) -> None:
    if (options.tls_cert is None) != (options.tls_key is None):
        raise MalformedError("--tls-cert and --tls-key go together")
    if options.tls_cert is None and not options.listen.loopback and not options.unsafe_plain_http:
        raise MalformedError(
            f"refusing to serve plain HTTP on {options.listen.host}, which other machines reach:"
            " give --tls-cert and --tls-key, or --unsafe-plain-http to serve it all the same"
        )
    if options.tls_cert is not None and options.tls_key is not None:
        check_pair(options.tls_cert, options.tls_key)


@contextlib.contextmanager
def _bound(listen: Listen) -> Iterator[socket.socket]:
    try:
        listening = _unix_socket(listen.path) if listen.path is not None else _tcp_socket(listen)
    except OSError as exc:
        where = listen.path or f"{listen.host}:{listen.port}"
        reason = "it is in use" if exc.errno == errno.EADDRINUSE else exc.strerror or str(exc)
        # A path that cannot be a socket stays so; an address may be free the next time.
        lasting = listen.path is not None and exc.errno != errno.EADDRINUSE
        kind = MalformedError if lasting else TransportError
        raise kind(f"cannot listen on {where}: {reason}") from exc
    try:
        yield listening
    finally:
        listening.close()
        if listen.path is not None:
            listen.path.unlink(missing_ok=True)


def _tcp_socket(listen: Listen) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _unix_socket(path: Path) -> socket.socket:
    # The data folder's lock says that no verifier of this folder runs; a socket that is left over
    # belongs to a killed one, if nobody answers on it.
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise MalformedError(f"--listen: {path} exists and is no socket; choose another path")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError(errno.EADDRINUSE, "it is in use")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process by the signal."""

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[], None], let_go: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._announce = announce
        self._let_go = let_go

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        yield

    def stop(self) -> None:
        """Answer what was asked, then end; what would go on for ever ends now."""
        self.should_exit = True
        self._let_go()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


async def _serve(
    options: ServeOptions, listening: socket.socket, store: Store, issuer: str, keys: Keys
) -> None:
    limits = options.limits
    _allow_files(limits.connections + _OTHER_FILES)
    service = await build_service(
        store,
        keys,
        issuer,
        limits=limits,
        rotations=read_rotations(options.data, issuer),
        maker=KeyFolder(options.data, issuer),
    )
    config = uvicorn.Config(
        build_app(service),
        http=protocol_within(limits),
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
        backlog=_BACKLOG,
        timeout_keep_alive=limits.keep_alive,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=MAX_HEADERS,
    )
    server = _Server(config, lambda: _announce(_url(options, listening)), service.statements.close)
    witnessing = Witnessing(
        store, service.ledger_key, [*map(WitnessClient, options.witnesses)], service.clock
    )
    housekeeping = asyncio.create_task(_keep_house(service, Collector()))
    try:
        async with (
            witnessed(witnessing, require=options.require_witness, stop=server.stop),
            flowing(service.streams),
        ):
            await server.serve(sockets=[listening])
    finally:
        housekeeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await housekeeping
        _summarise(service)


def _allow_files(wanted: int) -> None:
    # Where descriptors run out before connections do, nobody is accepted and nobody makes room.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        at_most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, at_most), hard))


def _url(options: ServeOptions, listening: socket.socket) -> str:
    if options.listen.path is not None:
        return f"unix:{options.listen.path}"
    host, port = listening.getsockname()[:2]
    scheme = "http" if options.tls_cert is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _announce(url: str) -> None:
    sys.stderr.write(f"bootlease verifier: listening on {url}\n")
    sys.stderr.flush()


async def _keep_house(service: Service, collector: Collector) -> None:
    while True:
        await asyncio.sleep(_HOUSEKEEPING)
        try:
            await service.store.sweep(now=service.clock.now())
        except (StoreBusyError, StoreUnavailableError) as exc:
            log_event("sweep-failed", reason=str(exc))
        service.ending.live.tidy(service.clock.now())
        _summarise(service)
        collector.look()


def _summarise(service: Service) -> None:
    if service.counts:
        log_event("summary", counts=dict(service.counts))
        service.counts.clear()
