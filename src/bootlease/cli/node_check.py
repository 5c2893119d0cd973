"""``bootlease node check``: is this configuration one, and does this machine fit it?"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import click

from bootlease.cli.exits import ExitCode
from bootlease.cli.node_service import read_bundle, read_config
from bootlease.errors import MalformedError, TransportError, VerificationError
from bootlease.node.bundle import JoinBundle
from bootlease.node.client import VerifierClient
from bootlease.node.service.config import AgentConfig
from bootlease.node.service.survey import agent_user, survey, user_name


@click.command()
@click.option(
    "--config",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The agent's configuration, TOML.",
)
@click.option("--reach", is_flag=True, help="Ask whether the verifier can be reached, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(config: Path, *, reach: bool, as_json: bool) -> int:
    """Check an agent's configuration, its join bundle, and whether this machine fits them.

    Looks at the folders, files, users and programs that the configuration names; run it as root or
    as the agent's user. Asks no TPM, and no verifier unless told to. Exits with 0 if the agent
    would start with it, warnings or not, with 2 if something will not do, and with 3 if a file
    cannot be read or the verifier not be reached.
    """
    read = read_config(config)
    bundle = read_bundle(read)
    remarks = list(survey(read))
    problems = [remark.text for remark in remarks if remark.problem]
    warnings = [remark.text for remark in remarks if not remark.problem]
    unreached = _unreached(bundle) if reach else None
    found = _summary(read, bundle)
    if as_json:
        reached = unreached is None if reach else None
        verdict = {"warnings": warnings, "problems": problems, "reached": reached}
        click.echo(json.dumps({**found, **verdict}))
    else:
        for name, value in found.items():
            click.echo(f"{name}: {'none' if value is None else value}")
        if reach and unreached is None:
            click.echo("reached: yes")
        for kind, texts in (("warning", warnings), ("problem", problems)):
            for text in texts:
                click.echo(f"{kind}: {text}")
    if problems:
        return ExitCode.USAGE
    if unreached is not None:
        raise unreached
    return ExitCode.ACCEPTED


def _summary(config: AgentConfig, bundle: JoinBundle) -> dict[str, object]:
    return {
        "verifier": bundle.issuer,
        "tcti": config.node.tcti,
        "user": user_name(agent_user(config.node.state)),
        "state": str(config.node.state),
        "socket": None if config.api is None else str(config.api.socket),
        "metrics": None if config.metrics is None else str(config.metrics),
        "keep": len(config.keep),
        "workload": len(config.rules.rules),
    }


def _unreached(bundle: JoinBundle) -> TransportError | None:
    """Return why the verifier cannot be reached, or None; asks what changes nothing there."""
    try:
        with contextlib.closing(VerifierClient(bundle)) as client:
            client.rotations()
    except TransportError as exc:
        return exc
    except (MalformedError, VerificationError):
        # It did not like the question, and was reached.
        return None
    return None
