"""Policy files as an operator keeps them: one of TOML, its Cedar policies in it or beside it."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from bootlease.cli.files import name_of, naming, read_file
from bootlease.errors import MalformedError

if TYPE_CHECKING:
    from bootlease.policy import Policy

_MAX_CEDAR: Final = 1024 * 1024
cedar_option = click.option(
    "--cedar",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with its Cedar policies, if [authorization] is not in FILE.",
)


def policy_document(text: bytes, cedar: Path | None) -> bytes:
    """Return a policy file whole: what is activated, stored and read.

    Args:
        text: The file.
        cedar: A file with its Cedar policies.

    Raises:
        MalformedError: There are Cedar policies in both, or in a file that is no UTF-8 or too long.
    """
    if cedar is None:
        return text
    from bootlease.policy import with_cedar  # noqa: PLC0415 - heavy

    try:
        policies = read_file(cedar, at_most=_MAX_CEDAR).decode()
    except UnicodeDecodeError as exc:
        raise MalformedError(f"{cedar} is not UTF-8: {exc}") from exc
    return with_cedar(text, policies).encode()


def read_policy(file: IO[bytes], cedar: Path | None = None) -> Policy:
    """Read a policy file; an error names the file."""
    from bootlease.policy import parse_policy  # noqa: PLC0415 - heavy
    from bootlease.policy.file import MAX_FILE  # noqa: PLC0415 - heavy

    with naming(name_of(file) if cedar is None else f"{name_of(file)} with {cedar}"):
        return parse_policy(policy_document(file.read(MAX_FILE + 1), cedar))
