"""``bootlease run``: run a command for as long as its lease lives.

Exit codes: the command's own, 128 + n where signal n ended it; 121 the lease was refused or taken
back, 122 it lapsed, 123 no lease came and nothing was started, 124 the level that was required is
not to be had, 125 the leash broke, 126 the command cannot be executed, 127 it is not there.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

import click

from bootlease.leash.ending import Ending, Reason
from bootlease.leash.outlet import Outlet
from bootlease.leash.run import Run
from bootlease.leash.run import run as run_leashed
from bootlease.leash.values import Terms

_STDERR: Final = 2
_PATIENCE: Final = 1.0
"""Seconds that the last line may wait to be read: all is ended by then."""
_FOR_PROGRAMS: Final = frozenset({"laid", "lacking", "started"})
"""What is logged only with --json: it happens at every start."""


class _Log:
    """Lines on standard error; one JSON object on each where asked for.

    Whoever reads this may be slow, or the workload have filled the pipe: no guard waits for that.
    What waits beyond a bound is counted, and the next line is preceded by how many were lost.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._outlet = Outlet(_STDERR)
        self._lost = 0

    def note(self, event: str, message: str, **facts: int) -> None:
        """Write one line, where people want to read it."""
        # Before the workload runs: it may take every process that there can be.
        self._outlet.start()
        if self._as_json or event not in _FOR_PROGRAMS:
            self._say({"event": event, "message": message, **facts}, message)

    def end(self, ending: Ending) -> None:
        """Write the last line: why it ended; wait a moment for somebody to read it."""
        if self._as_json:
            self._say(ending.as_dict(), "", last=True)
        else:
            self._say_why(ending)
        self._outlet.wait(_PATIENCE)

    def _say_why(self, ending: Ending) -> None:
        for finding in ending.findings:
            self._say({}, str(finding), last=True)
        # A command that ends by itself says so by its exit code, as it would without a leash.
        if ending.reason is not Reason.EXITED:
            late = ending.gone_after
            after = "" if late is None else f"; all was gone {late * 1000:.1f} ms later"
            self._say({}, f"{ending.message}{after}", last=True)

    def _say(self, members: dict[str, Any], words: str, *, last: bool = False) -> None:
        if self._lost:
            lines = "1 line" if self._lost == 1 else f"{self._lost} lines"
            lost = f"lost {lines} of this log: nobody read it"
            facts = {"event": "lost", "message": lost, "lines": self._lost}
            if self._write(facts, lost, last=last):
                self._lost = 0
        if not self._write(members, words, last=last):
            self._lost += 1

    def _write(self, members: dict[str, Any], words: str, *, last: bool) -> bool:
        line = json.dumps(members) if self._as_json else f"bootlease: {words}"
        return self._outlet.write(f"{line}\n".encode(errors="replace"), last=last)


@click.command(
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    name="run",
)
@click.option("--scope", "scopes", multiple=True, required=True, help="Scope name; repeatable.")
@click.option("--audience", required=True, help="The relying party that the token is for.")
@click.option(
    "--encoding",
    type=click.Choice(["cwt", "jwt", "unsafe-bearer"]),
    default="cwt",
    show_default=True,
    help="Form of the token.",
)
@click.option(
    "--confirmation",
    type=click.Choice(["process", "tpm", "tpm-expiring"]),
    default="process",
    show_default=True,
    help="Where the confirmation key lives: in the agent, in the TPM, or in the TPM until the lease"
    " ends.",
)
@click.option(
    "--socket",
    envvar="BOOTLEASE_WORKLOAD_SOCKET",
    show_envvar=True,
    type=click.Path(readable=False),
    help="The agent's socket.",
)
@click.option(
    "--level",
    "at_most",
    type=click.IntRange(0, 2),
    default=2,
    help="Highest level to use; by default the highest that the system allows.",
)
@click.option(
    "--require-level",
    "required",
    type=click.IntRange(0, 3),
    default=0,
    help="Start nothing at a lower level.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Send SIGTERM this long before the lease ends, where no renewal has come.",
)
@click.option(
    "--freeze",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="On lapse, freeze instead of kill, for at most this long; a fresh lease thaws. Level 2.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the first lease may take.",
)
@click.option(
    "--unsafe-keep-capabilities",
    is_flag=True,
    help="Leave a command that root starts the capabilities with which it can undo its leash.",
)
@click.option("--json", "as_json", is_flag=True, help="Log JSON, one object on each line.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(**options: Any) -> int:  # noqa: ANN401 - click's
    """Run COMMAND for as long as its lease lives.

    No lease, no start. When the lease ends, by refusal, by lapse, or because guard or leash are
    gone, every process that COMMAND started ends. Its environment has BOOTLEASE_LEASE, with which
    `bootlease token get` finds its token.

    The last line on standard error says why it ended. Exit codes: the command's own, 128 + n for
    signal n; 121 refused, 122 lapsed, 123 no lease came, 124 level not to be had, 125 the leash
    broke, 126 not executable, 127 not found.
    """
    log = _Log(as_json=options["as_json"])
    asked = Run(
        command=options["command"],
        scope=options["scopes"],
        audience=options["audience"],
        encoding=options["encoding"],
        confirmation=options["confirmation"],
        socket=options["socket"],
        at_most=options["at_most"],
        required=options["required"],
        terms=_terms(options["grace"], options["freeze"], options["wait"]),
        keep_capabilities=options["unsafe_keep_capabilities"],
    )
    ending = run_leashed(asked, log)
    log.end(ending)
    # At once: nothing of the interpreter's tidying up may come between the end and its telling.
    sys.stdout.flush()
    os._exit(ending.code)


def _terms(grace: float, freeze: float, wait: float) -> Terms:
    try:
        return Terms(grace, freeze, wait)
    except ValueError as exc:
        raise click.UsageError(f"--grace, --freeze, --wait: {exc}") from exc
