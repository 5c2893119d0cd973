"""``bootlease node``: enrol a node, keep its lease, look at it, collect evidence.

Exit codes: 0 done, or a lease is held; 1 the verifier refuses; 2 wrong usage or a malformed
file; 3 no TPM, no log, no verifier, or no lease; 130 interrupted; 141 nobody reads standard
output any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bootlease.cli.exits import ExitCode
from bootlease.cli.node_logs import check_log, ima_source, log_source
from bootlease.cli.node_options import (
    Nonce,
    ak_option,
    bundle_option,
    ek_option,
    file_to_write,
    ima_option,
    log_option,
    plain_option,
    state_option,
    tcti_option,
)
from bootlease.cli.node_tpm import open_bare_tpm, open_tpm, say, tpm_choice
from bootlease.cli.pcr_selection import Selection
from bootlease.cli.standard_output import OutputError
from bootlease.evidence import TokenEncoding
from bootlease.node.agent import NodeAgent, Settings
from bootlease.node.bundle import JoinBundle
from bootlease.node.client import VerifierClient
from bootlease.node.clock import SystemClock
from bootlease.node.collect import collect as collect_evidence
from bootlease.node.collect import write_folder
from bootlease.node.confirm import Confirmation
from bootlease.node.enrol import enrol as enrol_device
from bootlease.node.ima import IMASource
from bootlease.node.key_kinds import AKAlgorithm
from bootlease.node.lease import EndReason, HeldLease, LeaseFiles, LeaseKeeper
from bootlease.node.logs import EventLogFile, EventLogSource
from bootlease.node.run import Reporter, Stopped, run_once, run_until_stopped
from bootlease.node.state import StateDirectory, read_memory, read_status
from bootlease.node.status import LeaseState, Status
from bootlease.node.wishes import LeaseWish

if TYPE_CHECKING:
    from bootlease.node.opening import TPMChoice


@dataclass(frozen=True, slots=True)
class _Run:
    """What ``node run`` was told."""

    settings: Settings
    choice: TPMChoice
    log: EventLogSource
    ima: IMASource | None
    files: LeaseFiles
    state: Path
    once: bool
    as_json: bool


@dataclass(slots=True)
class _PrintedStatus:
    """Prints each status on its way to the state directory.

    Attributes:
        directory: Where it goes.
        runs: Stop the agent when nothing can be printed any more: whoever asked for its statuses
            has gone, and neither of its threads may die of that.
        lost: Why nothing is printed any more.
    """

    directory: StateDirectory
    runs: bool
    lost: OutputError | None = None

    def report(self, status: Status) -> None:
        """Publish and print ``status``."""
        self.directory.report(status)
        if self.lost is None:
            try:
                click.echo(json.dumps(status.as_dict()))
            except OutputError as exc:
                self.lost = exc
                if self.runs:
                    os.kill(os.getpid(), signal.SIGTERM)


@click.group(name="node")
def node() -> None:
    """Be a node: prove what this machine booted.

    Its TPM signs the proof; a verifier answers it with a lease.
    """


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
    choice = tpm_choice(tcti, ek_algorithm, ak_algorithm)
    with StateDirectory(state) as directory, open_tpm(choice, directory) as device:
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
@ima_option
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
    help="Keep the token here, mode 0600, for as long as the lease stands: binary for cwt, text for"
    " jwt. In HTTP a cwt goes as base64url: `bootlease token proof` makes the headers. Who kills"
    " the agent with SIGKILL leaves the file behind, until the next agent starts.",
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
    """Hold a lease: enrol if need be, attest, renew.

    SIGTERM and Ctrl-C take the token back and end the agent, with 0 and 130. An agent that is
    refused, or cannot reach its verifier, goes on trying; with --once it ends with 1 or 3.
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
    log = log_source(ctx, options["tcti"], options["log_file"])
    if isinstance(log, EventLogFile):
        check_log(log)
    choice = tpm_choice(options["tcti"], options["ek_algorithm"], options["ak_algorithm"])
    files = LeaseFiles(options["token_file"], options["key_file"])
    return _run(
        _Run(
            settings,
            choice,
            log,
            ima_source(options["tcti"], options["ima_list"]),
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
        printed = _PrintedStatus(directory, not request.once) if request.as_json else None
        reporter = Reporter(request.settings.bundle.issuer, printed or directory, clock, say)

        def on_end(reason: EndReason, lease: HeldLease) -> None:
            reporter.ended(reason, lease)
            # Between two attempts far apart: a lease that has just lapsed is worth one at once.
            if reason is EndReason.LAPSED:
                wake.set()

        keeper = LeaseKeeper(clock, request.files, on_end)
        with (
            open_tpm(request.choice, directory) as device,
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
                say=say,
                ima=request.ima,
            )
            if request.once:
                return _once(agent, reporter, printed)
            stopped = run_until_stopped(agent, keeper, reporter, wake)
            lost = None if printed is None else printed.lost
            if not stopped.clean:
                _exit_at_once(stopped, lost)
    if lost is not None:
        raise lost
    return _exit_code(stopped.signal)


def _once(agent: NodeAgent, reporter: Reporter, printed: _PrintedStatus | None) -> int:
    try:
        run_once(agent, reporter)
    finally:
        if printed is not None and printed.lost is not None:
            raise printed.lost
    return ExitCode.ACCEPTED


def _exit_code(caught: signal.Signals) -> int:
    return ExitCode.INTERRUPTED if caught is signal.SIGINT else ExitCode.ACCEPTED


def _exit_at_once(stopped: Stopped, lost: OutputError | None) -> NoReturn:
    # The worker hangs in the TPM or the network with its connection in use: closing it under
    # the worker's hands would crash, waiting for it would not end.
    sys.stderr.flush()
    os._exit(_exit_code(stopped.signal) if lost is None else ExitCode.READER_GONE)


@node.command()
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(state: Path, *, as_json: bool) -> int:
    """Show how the lease of this node stands.

    Exits with 0 if a lease is held, 1 if the verifier refused, 2 if the status file is damaged, 3
    if there is no lease for another reason or no agent has run.
    """
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
    yield from found.notes
    if found.error is not None and not found.findings:
        yield f"last error: {found.error}"


@node.command()
@tcti_option
@log_option
@ima_option
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
    """Quote this machine, and write the evidence to files.

    They are what `bootlease quote verify` and `bootlease reference learn` read: attest.bin,
    signature.bin, ak.pub, pcrs.json and eventlog.bin. Where the kernel measures files,
    `bootlease ima replay` reads ima.bin.
    """
    tcti, folder = options["tcti"], options["output"]
    log = log_source(ctx, tcti, options["log_file"]).read()
    ima = ima_source(tcti, options["ima_list"])
    algorithm = AKAlgorithm(options["ak_algorithm"] or AKAlgorithm.ECC_P256.value)
    with open_bare_tpm(tcti, algorithm) as device:
        known = None if options["state"] is None else read_memory(options["state"]).ak
        if known is not None:
            device.load_ak(known)
        try:
            files = collect_evidence(device, options["nonce"], options["selection"], log, ima)
        finally:
            if known is None and device.ak_handle is not None:
                device.remove_ak()
    write_folder(folder, files)
    if options["as_json"]:
        click.echo(json.dumps({name: str(folder / name) for name in files}))
        return
    for name, content in files.items():
        click.echo(f"{folder / name}  {len(content)} bytes")


def _check_transport(bundle: JoinBundle, *, allowed: bool) -> None:
    if bundle.plain_and_remote and not allowed:
        raise click.UsageError(
            f"the verifier {bundle.issuer} is reached over a network without TLS;"
            " --unsafe-plain-http allows it"
        )
