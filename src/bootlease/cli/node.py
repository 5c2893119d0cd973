"""``bootlease node``: enrol a node, keep its lease, look at it, collect evidence.

Exit codes: 0 done, or a lease is held; 1 the verifier refuses; 2 wrong usage or a malformed
file; 3 no TPM, no log, no verifier, or no lease; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from bootlease.cli.exits import ExitCode
from bootlease.cli.node_options import (
    Nonce,
    Selection,
    ak_option,
    bundle_option,
    ek_option,
    file_to_write,
    log_option,
    plain_option,
    state_option,
    tcti_option,
)
from bootlease.errors import TransportError
from bootlease.evidence import TokenEncoding
from bootlease.node.agent import NodeAgent, Settings
from bootlease.node.bundle import JoinBundle
from bootlease.node.client import VerifierClient
from bootlease.node.clock import SystemClock
from bootlease.node.collect import collect as collect_evidence
from bootlease.node.collect import write_folder
from bootlease.node.confirm import Confirmation
from bootlease.node.enrol import enrol as enrol_device
from bootlease.node.key_kinds import AKAlgorithm, EKAlgorithm
from bootlease.node.lease import EndReason, HeldLease, LeaseFiles, LeaseKeeper
from bootlease.node.logs import EventLogFile, EventLogSource, kernel_log_of
from bootlease.node.run import Reporter, Stopped, run_once, run_until_stopped
from bootlease.node.state import StateDirectory, read_memory, read_status
from bootlease.node.status import LeaseState, Status
from bootlease.node.wishes import LeaseWish

if TYPE_CHECKING:
    import signal

    from bootlease.node.opening import TPMChoice
    from bootlease.node.tpm_device import ESAPIDevice

_SIGINT: Final = 2


@dataclass(frozen=True, slots=True)
class _Run:
    """What ``node run`` was told."""

    settings: Settings
    choice: TPMChoice
    log: EventLogSource
    files: LeaseFiles
    state: Path
    once: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _PrintedStatus:
    """Prints each status on its way to the state directory."""

    directory: StateDirectory

    def report(self, status: Status) -> None:
        """Print and publish ``status``."""
        click.echo(json.dumps(status.as_dict()))
        self.directory.report(status)


@click.group(name="node")
def node() -> None:
    """Be a node: prove with this machine's TPM what it booted, and hold a lease for it."""


@node.command()
@bundle_option
@tcti_option
@state_option
@ek_option
@ak_option
@plain_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def enrol(
    bundle: JoinBundle,
    tcti: str,
    state: Path,
    ek_algorithm: str | None,
    ak_algorithm: str | None,
    *,
    unsafe_plain_http: bool,
    as_json: bool,
) -> None:
    """Make this machine's TPM known to a verifier.

    Enrolling again is harmless. A new attestation key ends the lease of the old one.
    """
    _check_transport(bundle, allowed=unsafe_plain_http)
    choice = _choice(tcti, ek_algorithm, ak_algorithm)
    with StateDirectory(state) as directory, _tpm(choice, directory) as device:
        with contextlib.closing(VerifierClient(bundle)) as client:
            enrolment = enrol_device(client, device, bundle)
        directory.save(directory.load().enrolled(enrolment))
    known = {"node": enrolment.node.hex(), "issuer": bundle.issuer}
    click.echo(json.dumps(known) if as_json else enrolment.node.hex())


@node.command()
@bundle_option
@tcti_option
@state_option
@ek_option
@ak_option
@log_option
@plain_option
@click.option("--scope", "scopes", multiple=True, required=True, help="Scope name; repeatable.")
@click.option("--audience", required=True, help="The relying party that the token is for.")
@click.option(
    "--encoding",
    type=click.Choice([encoding.value for encoding in TokenEncoding]),
    default=TokenEncoding.CWT.value,
    show_default=True,
    help="Form of the token.",
)
@click.option(
    "--confirmation",
    type=click.Choice([kind.value for kind in Confirmation]),
    default=Confirmation.PROCESS.value,
    show_default=True,
    help="Where the confirmation key lives.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=file_to_write,
    help="Keep the token here, mode 0600, for as long as the lease stands.",
)
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=file_to_write,
    help="Keep the confirmation key here as PEM, mode 0600, for as long as the lease stands.",
)
@click.option("--once", is_flag=True, help="Get one lease, leave it in its files and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print every new status, JSON on one line.")
@click.pass_context
def run(ctx: click.Context, /, bundle: JoinBundle, **options: Any) -> int:  # noqa: ANN401 - click's
    """Hold a lease: enrol if need be, attest, and renew until stopped.

    SIGTERM and Ctrl-C take the token back and end the agent.
    """
    _check_transport(bundle, allowed=options["unsafe_plain_http"])
    confirmation = Confirmation(options["confirmation"])
    if options["key_file"] is not None and confirmation is Confirmation.TPM:
        raise click.UsageError("--key-file: a key in the TPM cannot be written to a file", ctx)
    if options["key_file"] is not None and options["key_file"] == options["token_file"]:
        raise click.UsageError("--key-file and --token-file name one file", ctx)
    try:
        wish = LeaseWish(options["scopes"], options["audience"], TokenEncoding(options["encoding"]))
    except ValueError as exc:
        raise click.UsageError(str(exc), ctx) from exc
    settings = Settings(bundle, (wish,), confirmation)
    log = _log_source(ctx, options["tcti"], options["log_file"])
    choice = _choice(options["tcti"], options["ek_algorithm"], options["ak_algorithm"])
    files = LeaseFiles(options["token_file"], options["key_file"])
    return _run(
        _Run(
            settings,
            choice,
            log,
            files,
            options["state"],
            once=options["once"],
            as_json=options["as_json"],
        )
    )


def _run(request: _Run) -> int:
    clock, wake = SystemClock(), threading.Event()
    with StateDirectory(request.state) as directory:
        directory.claim(*request.files.paths)
        store = _PrintedStatus(directory) if request.as_json else directory
        reporter = Reporter(request.settings.bundle.issuer, store, clock, _say)

        def on_end(reason: EndReason, lease: HeldLease) -> None:
            reporter.ended(reason, lease)
            # Between two attempts far apart: a lease that has just lapsed is worth one at once.
            if reason is EndReason.LAPSED:
                wake.set()

        keeper = LeaseKeeper(clock, request.files, on_end)
        with (
            _tpm(request.choice, directory) as device,
            contextlib.closing(VerifierClient(request.settings.bundle)) as client,
        ):
            agent = NodeAgent(
                request.settings,
                device=device,
                log=request.log,
                verifier=client,
                keeper=keeper,
                store=directory,
                clock=clock,
                jitter=random.random,
                say=_say,
            )
            if request.once:
                run_once(agent, reporter)
                return ExitCode.ACCEPTED
            stopped = run_until_stopped(agent, keeper, reporter, wake)
            if not stopped.clean:
                _exit_at_once(stopped)
    return _exit_code(stopped.signal)


def _exit_code(caught: signal.Signals) -> int:
    return ExitCode.INTERRUPTED if caught == _SIGINT else ExitCode.ACCEPTED


def _exit_at_once(stopped: Stopped) -> NoReturn:
    # The worker hangs in the TPM or the network with its connection in use: closing it under
    # the worker's hands would crash, waiting for it would not end.
    sys.stderr.flush()
    os._exit(_exit_code(stopped.signal))


@node.command()
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(state: Path, *, as_json: bool) -> int:
    """Show how the lease of this node stands."""
    found, running = read_status(state)
    now = int(time.time())
    holds = found.state is LeaseState.HELD and now < (found.expires_at or 0)
    if as_json:
        shown = {**found.as_dict(), "running": running, "valid": holds}
        click.echo(json.dumps(shown, indent=2))
    else:
        for line in _status_lines(found, now, running=running, holds=holds):
            click.echo(line)
    if holds:
        return ExitCode.ACCEPTED
    return ExitCode.REFUSED if found.state is LeaseState.REFUSED else ExitCode.UNREACHABLE


def _status_lines(found: Status, now: int, *, running: bool, holds: bool) -> Iterator[str]:
    if holds:
        for lease in found.leases:
            yield f"lease {found.sequence} held: {' '.join(lease.scope)} for {lease.audience}"
        yield f"ends in {(found.expires_at or now) - now} s unless renewed"
    elif found.state is LeaseState.HELD:
        yield "no lease: the last one has lapsed"
    else:
        yield f"no lease: {found.state.value}"
    yield f"verifier {found.issuer}"
    if found.node is not None:
        yield f"node {found.node}"
    if not running:
        yield "no agent is running"
    elif found.next_attempt_at is not None:
        yield f"next attempt in {max(0, found.next_attempt_at - now)} s"
    for finding in found.findings:
        yield str(finding)
    if found.error is not None and not found.findings:
        yield f"last error: {found.error}"


@node.command()
@tcti_option
@log_option
@click.option("--nonce", type=Nonce(), required=True, help="Qualifying data of the quote.")
@click.option(
    "--pcrs",
    "selection",
    type=Selection(),
    required=True,
    help="PCRs to quote, for example sha256:0-7,14 or sha1:0-7+sha256:0-7.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the files.",
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="BOOTLEASE_STATE",
    show_envvar=True,
    help="State directory whose attestation key signs; by default one made for the occasion.",
)
@ak_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def collect(ctx: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - click's
    """Quote this machine and write what `bootlease quote verify` and `reference learn` read.

    attest.bin, signature.bin, ak.pub, pcrs.json and eventlog.bin.
    """
    tcti, folder = options["tcti"], options["output"]
    log = _log_source(ctx, tcti, options["log_file"]).read()
    algorithm = AKAlgorithm(options["ak_algorithm"] or AKAlgorithm.ECC_P256.value)
    with _bare_tpm(tcti, algorithm) as device:
        known = None if options["state"] is None else read_memory(options["state"]).ak
        if known is not None:
            device.load_ak(known)
        try:
            files = collect_evidence(device, options["nonce"], options["selection"], log)
        finally:
            if known is None and device.ak_handle is not None:
                device.remove_ak()
    write_folder(folder, files)
    if options["as_json"]:
        click.echo(json.dumps({name: str(folder / name) for name in files}))
        return
    for name, content in files.items():
        click.echo(f"{folder / name}  {len(content)} bytes")


def _say(line: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    click.echo(f"{stamp} {line}", err=True)


def _check_transport(bundle: JoinBundle, *, allowed: bool) -> None:
    if bundle.plain_and_remote and not allowed:
        raise click.UsageError(
            f"the verifier {bundle.issuer} is reached over a network without TLS;"
            " --unsafe-plain-http allows it"
        )


def _log_source(ctx: click.Context, tcti: str, path: Path | None) -> EventLogSource:
    if path is not None:
        return EventLogFile(path)
    if not tcti.startswith("device"):
        raise click.UsageError(
            f"--log FILE is needed: the kernel keeps no event log for the TPM at {tcti}", ctx
        )
    return kernel_log_of(tcti)


def _needs_extra(exc: ImportError) -> TransportError:
    return TransportError(
        "talking to a TPM needs tpm2-pytss and the tpm2-tss libraries: pip install"
        " 'bootlease[node]'; on Debian: apt install libtss2-esys-3.0.2-0 libtss2-tcti-device0"
        f" ({' '.join(str(exc).split())[:120]})"
    )


def _choice(tcti: str, ek_algorithm: str | None, ak_algorithm: str | None) -> TPMChoice:
    try:
        from bootlease.node.opening import TPMChoice  # noqa: PLC0415 - needs the extra "node"
    except ImportError as exc:
        raise _needs_extra(exc) from exc
    return TPMChoice(
        tcti,
        None if ek_algorithm is None else EKAlgorithm(ek_algorithm),
        None if ak_algorithm is None else AKAlgorithm(ak_algorithm),
    )


@contextlib.contextmanager
def _tpm(choice: TPMChoice, directory: StateDirectory) -> Iterator[ESAPIDevice]:
    from bootlease.node.opening import open_with_memory  # noqa: PLC0415 - needs the extra "node"

    with contextlib.closing(open_with_memory(choice, directory, _say)) as device:
        yield device


@contextlib.contextmanager
def _bare_tpm(tcti: str, algorithm: AKAlgorithm) -> Iterator[ESAPIDevice]:
    try:
        from bootlease.node.tpm_device import ESAPIDevice  # noqa: PLC0415 - needs the extra "node"
    except ImportError as exc:
        raise _needs_extra(exc) from exc
    with contextlib.closing(ESAPIDevice(tcti, ak_algorithm=algorithm)) as device:
        yield device
