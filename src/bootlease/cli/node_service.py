"""``bootlease node run --config``: the agent as a service, put together."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bootlease.cli.exits import ExitCode
from bootlease.cli.files import naming
from bootlease.cli.node_logs import check_log, ima_source, log_source
from bootlease.cli.node_options import check_transport
from bootlease.cli.node_tpm import open_tpm, tpm_choice
from bootlease.errors import MalformedError
from bootlease.node.bundle import MAX_BUNDLE, JoinBundle, parse_bundle
from bootlease.node.client import VerifierClient
from bootlease.node.clock import SystemClock
from bootlease.node.confirm import Confirmation
from bootlease.node.files import read_bounded
from bootlease.node.logline import Log, LogFormat
from bootlease.node.logs import EventLogFile
from bootlease.node.run import Stopped
from bootlease.node.service.config import MAX_CONFIG, AgentConfig, parse_config
from bootlease.node.service.daemon import AgentService, Surroundings, WorkloadAPI
from bootlease.node.service.notify import ServiceManager, passed_sockets
from bootlease.node.state import StateDirectory
from bootlease.node.wishbook import Wishes
from bootlease.node.workloads import ServerSettings, WorkloadServer
from bootlease.ports import Clock

if TYPE_CHECKING:
    import socket

    from bootlease.node.tpm.opening import TPMChoice

_SOCKET_NAME = "workload"
"""FileDescriptorName of the Workload API's socket, where systemd hands one over."""


def read_config(path: Path) -> AgentConfig:
    """Read a configuration file.

    Raises:
        MalformedError: It is none; the message names file, line and key.
        TransportError: It cannot be read.
    """
    data = read_bounded(path, "configuration", at_most=MAX_CONFIG)
    with naming(str(path)):
        return parse_config(data)


def read_bundle(config: AgentConfig) -> JoinBundle:
    """Read the join bundle that a configuration names, and see that it fits.

    Raises:
        MalformedError: It is none, or does not permit what the configuration asks for.
        TransportError: It cannot be read.
        click.UsageError: The verifier is reached without TLS, which is not allowed.
    """
    data = read_bounded(config.bundle, "join bundle", at_most=MAX_BUNDLE)
    with naming(str(config.bundle)):
        bundle = parse_bundle(data)
    check_transport(bundle, allowed=config.unsafe_plain_http)
    expiring = any(keep.confirmation is Confirmation.TPM_EXPIRING for keep in config.keep)
    if expiring and bundle.leash_key is None:
        raise MalformedError(f"{config.bundle} names no leash_key, which tpm-expiring needs")
    return bundle


def serve(ctx: click.Context, path: Path, form: LogFormat | None) -> Stopped:
    """Run the agent that a configuration file describes, until it is told to stop.

    Args:
        ctx: For errors.
        path: The file.
        form: How log lines are written, whatever the file says.

    Raises:
        MalformedError: The file, or one that it names, is malformed.
        TransportError: The TPM, a file or a socket cannot be used.
    """
    config = _read(path, form)
    manager = ServiceManager.from_environment(os.environ)
    sockets = passed_sockets(os.environ)
    bundle = read_bundle(config)
    node = config.node
    log = log_source(ctx, node.tcti, node.log)
    if isinstance(log, EventLogFile):
        check_log(log)
    say, clock = Log(sys.stderr, config.log_format), SystemClock()
    with (
        StateDirectory(node.state) as directory,
        open_tpm(_choice(config), directory, say) as device,
        contextlib.closing(VerifierClient(bundle)) as client,
    ):
        around = Surroundings(
            bundle=bundle,
            device=device,
            log=log,
            ima=ima_source(node.tcti, node.ima_list),
            verifier=client,
            directory=directory,
            clock=clock,
            say=say,
            manager=manager,
            read_config=lambda: _read(path, form),
            make_api=_api(config, bundle, sockets, clock, say),
        )
        stopped = AgentService(config, around).run()
        if not stopped.clean:
            # Its worker hangs with TPM and connection in use: closing them under its hands
            # would crash.
            sys.stderr.flush()
            os._exit(ExitCode.ACCEPTED)
    return stopped


def _read(path: Path, form: LogFormat | None) -> AgentConfig:
    config = read_config(path)
    return config if form is None else dataclasses.replace(config, log_format=form)


def _choice(config: AgentConfig) -> TPMChoice:
    ek, ak = config.node.ek_algorithm, config.node.ak_algorithm
    return tpm_choice(
        config.node.tcti,
        None if ek is None else ek.value,
        None if ak is None else ak.value,
    )


def _api(
    config: AgentConfig,
    bundle: JoinBundle,
    sockets: dict[str, socket.socket],
    clock: Clock,
    say: Log,
) -> Callable[[Wishes], WorkloadAPI] | None:
    api = config.api
    if unknown := sockets.keys() - {_SOCKET_NAME}:
        raise MalformedError(
            f"a socket named {min(unknown)!a} was handed over; FileDescriptorName must be"
            f" {_SOCKET_NAME}"
        )
    if api is None:
        if sockets:
            raise MalformedError("a socket was handed over, and the configuration has no [api]")
        return None
    settings = ServerSettings(
        issuer=bundle.issuer,
        path=api.socket,
        mode=api.mode,
        gid=api.gid,
        sockets=tuple(sockets.values()),
    )
    return lambda wishes: WorkloadServer(settings, config.rules, wishes, clock, say)
