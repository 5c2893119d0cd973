"""``bootlease demo``: the whole story on simulated TPMs."""

from __future__ import annotations

import click

from bootlease.errors import TransportError


@click.command()
def demo() -> None:
    """Play the main job on two simulated TPMs, from enrolment to refusal.

    Needs swtpm and the extra ``bootlease[node]``. Takes about half a minute, uses a private folder
    and a free port, and leaves nothing behind.
    """
    try:
        from bootlease.testing.demo import run_demo  # noqa: PLC0415 - an optional extra
    except ImportError as exc:
        raise TransportError(f"the demo needs the extra bootlease[node]: {exc}") from exc
    run_demo()
