"""The ``bootlease`` command: one module per command, loaded when it is asked for.

Data goes to stdout, everything else to stderr. ``main`` is the only place where an error becomes
an exit code and one clear line.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from bootlease import __version__
from bootlease.cli import standard_output
from bootlease.cli.exits import ExitCode
from bootlease.cli.lazy_group import LazyGroup
from bootlease.cli.standard_output import OutputError
from bootlease.errors import MalformedError, TransportError, VerificationError

_COMMANDS: Final = {
    "appraise": "appraise",
    "demo": "demo",
    "eventlog": "eventlog",
    "explain": "explain",
    "ima": "ima",
    "ledger": "ledger",
    "node": "node",
    "policy": "policy",
    "quote": "quote",
    "reference": "reference",
    "replay": "replay",
    "revoke": "revoke",
    # A module ``run`` would replace this package's function of that name once it is imported.
    "run": "run_workload",
    "token": "token",
    "verifier": "verifier",
}
"""Command name to the module under ``bootlease.cli`` that holds it, under the same name."""


@click.group(
    cls=LazyGroup,
    modules=_COMMANDS,
    name="bootlease",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="bootlease")
def bootlease() -> None:
    """Execution authorization from measured boot.

    A node proves with its TPM what it booted; a verifier answers with a short-lived execution
    token; when proof stops, execution stops.

    Exit codes: 0 accepted, 1 refused, 2 wrong usage or malformed input, 3 cannot reach, or
    cannot write to standard output; 130 Ctrl-C, 141 the reader of standard output has gone.
    """


def main() -> NoReturn:
    """Run the command line and exit."""
    # A standard stream that the caller closed is None; complaints into the void are all right.
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - open until the process ends
    if sys.stdout is None:
        sys.exit(_complain(ExitCode.USAGE, "standard output is closed"))
    standard_output.install()
    code = run(sys.argv[1:])
    try:
        sys.stderr.flush()
    except OSError:
        # Left as it is, the interpreter tries again at its end, and ends with a code of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line ``arguments`` and return the exit code; nothing is raised."""
    try:
        result = bootlease.main(arguments, prog_name="bootlease", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as exc:
        with contextlib.suppress(OSError):
            exc.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except MalformedError as exc:
        return _complain(ExitCode.USAGE, str(exc))
    except VerificationError as exc:
        _tell(*map(str, exc.findings), *getattr(exc, "__notes__", ()))
        return ExitCode.REFUSED
    except TransportError as exc:
        return _complain(ExitCode.UNREACHABLE, str(exc))
    except OutputError as exc:
        standard_output.drop()
        if exc.reader_gone:
            # `… | head`: nothing is left to say, and nothing went wrong here.
            return ExitCode.READER_GONE
        return _complain(ExitCode.UNREACHABLE, str(exc))
    except OSError as exc:
        name = f"{os.fsdecode(exc.filename)}: " if exc.filename else ""
        return _complain(ExitCode.USAGE, f"{name}{exc.strerror or exc}")
    return result if isinstance(result, int) else ExitCode.ACCEPTED


def _complain(code: ExitCode, message: str) -> ExitCode:
    _tell(f"error: {message}")
    return code


def _tell(*lines: str) -> None:
    # What cannot be complained of is still told by the exit code.
    with contextlib.suppress(OSError):
        for line in lines:
            click.echo(f"bootlease: {line}", err=True)
