"""``bootlease node run``: hold leases, by options or by a configuration file."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
from click.core import ParameterSource

from bootlease.cli.exits import ExitCode
from bootlease.cli.node_logs import check_log, ima_source, log_source
from bootlease.cli.node_options import (
    Bundle,
    ak_option,
    check_transport,
    config_option,
    ek_option,
    file_to_write,
    ima_option,
    log_option,
    plain_option,
    state_option,
    tcti_option,
)
from bootlease.cli.node_tpm import open_tpm, tpm_choice
from bootlease.cli.standard_output import OutputError
from bootlease.evidence import TokenEncoding
from bootlease.node.client import VerifierClient
from bootlease.node.clock import SystemClock
from bootlease.node.confirm import Confirmation
from bootlease.node.ima import IMASource
from bootlease.node.lease import EndReason, HeldLease, LeaseKeeper
from bootlease.node.logline import Log, LogFormat
from bootlease.node.logs import EventLogFile, EventLogSource
from bootlease.node.outputs import LeaseFiles
from bootlease.node.renewal.agent import NodeAgent
from bootlease.node.renewal.settings import Settings
from bootlease.node.reporter import Reporter
from bootlease.node.run import Stopped, Worker, run_once, run_until_stopped
from bootlease.node.schedule import Schedule
from bootlease.node.state import StateDirectory
from bootlease.node.status import Status
from bootlease.node.wakeup import Wakeup
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Wishes
from bootlease.ports import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bootlease.node.tpm.opening import TPMChoice

_WITH_CONFIG: Final = frozenset({"config", "log_format"})


@dataclass(frozen=True, slots=True)
class _Run:
    """What ``node run`` was told."""

    settings: Settings
    choice: TPMChoice
    log: EventLogSource
    ima: IMASource | None
    files: LeaseFiles
    state: Path
    say: Log
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


@click.command()
@config_option
@click.option(
    "--bundle", type=Bundle(), help="Join bundle of the verifier; needed without --config."
)
@tcti_option
@state_option
@ek_option
@ak_option
@log_option
@ima_option
@plain_option
@click.option(
    "--scope", "scopes", multiple=True, help="Scope name; repeatable; needed without --config."
)
@click.option(
    "--audience", help="The relying party that the token is for; needed without --config."
)
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
@click.option(
    "--log-format",
    type=click.Choice([form.value for form in LogFormat]),
    help="How standard error is written: text, or JSON objects, one a line.  [default: text]",
)
@click.pass_context
def run(ctx: click.Context, /, **options: Any) -> int:  # noqa: ANN401 - click's
    """Hold leases: enrol if need be, attest, renew.

    SIGTERM and Ctrl-C take the token back and end the agent, with 0 and 130. An agent that is
    refused, or cannot reach its verifier, goes on trying; with --once it ends with 1 or 3.

    With --config it runs as a service: it serves workloads, keeps what the file tells it to keep,
    and reads the file again at SIGHUP. No other option but --log-format goes with it.
    """
    form = None if options["log_format"] is None else LogFormat(options["log_format"])
    if options["config"] is not None:
        _refuse_others(ctx)
        # An agent without a service carries no server with it.
        from bootlease.cli.node_service import serve  # noqa: PLC0415

        return _exit_code(serve(ctx, options["config"], form).signal)
    settings = _settings(ctx, options)
    log = log_source(ctx, options["tcti"], options["log_file"])
    if isinstance(log, EventLogFile):
        check_log(log)
    choice = tpm_choice(options["tcti"], options["ek_algorithm"], options["ak_algorithm"])
    return _run(
        _Run(
            settings,
            choice,
            log,
            ima_source(options["tcti"], options["ima_list"]),
            LeaseFiles(options["token_file"], options["key_file"]),
            options["state"],
            Log(sys.stderr, form or LogFormat.TEXT),
            once=options["once"],
            as_json=options["as_json"],
        )
    )


def _settings(ctx: click.Context, options: dict[str, Any]) -> Settings:
    """Return what the options say to keep, once they are seen to fit each other."""
    for name in ("bundle", "scopes", "audience"):
        if not options[name]:
            param = next(each for each in ctx.command.params if each.name == name)
            raise click.MissingParameter(ctx=ctx, param=param)
    bundle = options["bundle"]
    check_transport(bundle, allowed=options["unsafe_plain_http"])
    confirmation = Confirmation(options["confirmation"])
    if options["key_file"] is not None and confirmation is not Confirmation.PROCESS:
        raise click.UsageError("--key-file: a key in the TPM cannot be written to a file", ctx)
    if confirmation is Confirmation.TPM_EXPIRING and bundle.leash_key is None:
        raise click.UsageError(
            "--confirmation: the join bundle names no leash_key, which says when a key expires:"
            " make a new one with `bootlease verifier bundle`",
            ctx,
        )
    if options["key_file"] is not None and options["key_file"] == options["token_file"]:
        raise click.UsageError("--key-file and --token-file name one file", ctx)
    try:
        wish = LeaseWish(options["scopes"], options["audience"], TokenEncoding(options["encoding"]))
    except ValueError as exc:
        raise click.UsageError(str(exc), ctx) from exc
    return Settings(bundle, (wish,), confirmation)


def _refuse_others(ctx: click.Context) -> None:
    for param in ctx.command.params:
        name = param.name or ""
        given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in _WITH_CONFIG:
            raise click.UsageError(f"{param.opts[0]} does not go with --config: the file says it")


def _run(request: _Run) -> int:
    clock, wakeup, say = SystemClock(), Wakeup(), request.say
    with StateDirectory(request.state) as directory:
        directory.claim(*request.files.paths)
        printed = _PrintedStatus(directory, not request.once) if request.as_json else None
        reporter = Reporter(request.settings.bundle.issuer, printed or directory, clock, say)

        def on_end(reason: EndReason, lease: HeldLease) -> None:
            reporter.ended(reason, lease)
            # Between two attempts far apart: a lease that has just lapsed is worth one at once.
            if reason is EndReason.LAPSED:
                wakeup.hurry()

        keeper, wishes = LeaseKeeper(clock, request.files, on_end), request.settings.book()
        with _agent(request, directory, keeper, clock, wishes) as agent:
            if request.once:
                return _once(agent, reporter, printed)
            reporter.started()
            worker = Worker(agent, reporter, Schedule(wishes, wakeup, clock))
            try:
                stopped = run_until_stopped(worker, keeper, wakeup)
            finally:
                reporter.stopped()
            lost = None if printed is None else printed.lost
            if not stopped.clean:
                _exit_at_once(stopped, lost)
    if lost is not None:
        raise lost
    return _exit_code(stopped.signal)


@contextlib.contextmanager
def _agent(
    request: _Run, directory: StateDirectory, keeper: LeaseKeeper, clock: Clock, wishes: Wishes
) -> Iterator[NodeAgent]:
    with (
        open_tpm(request.choice, directory, request.say) as device,
        contextlib.closing(VerifierClient(request.settings.bundle)) as client,
    ):
        yield NodeAgent(
            request.settings,
            device=device,
            log=request.log,
            verifier=client,
            keeper=keeper,
            store=directory,
            clock=clock,
            jitter=random.random,
            say=request.say,
            ima=request.ima,
            wishes=wishes,
        )


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
