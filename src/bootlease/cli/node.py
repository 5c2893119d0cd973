"""``bootlease node``: enrol a node, keep its lease, look at it, collect evidence.

Exit codes: 0 done, or a lease is held; 1 the verifier refuses; 2 wrong usage or a malformed
file; 3 no TPM, no log, no verifier, or no lease; 130 interrupted; 141 nobody reads standard
output any more.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from bootlease.cli.lazy_group import LazyGroup
from bootlease.cli.node_logs import ima_source, log_source
from bootlease.cli.node_options import (
    Nonce,
    ak_option,
    bundle_option,
    check_transport,
    ek_option,
    ima_option,
    log_option,
    plain_option,
    state_option,
    tcti_option,
)
from bootlease.cli.node_tpm import open_bare_tpm, open_tpm, tpm_choice
from bootlease.cli.pcr_selection import Selection
from bootlease.node.bundle import JoinBundle
from bootlease.node.client import VerifierClient
from bootlease.node.collect import collect as collect_evidence
from bootlease.node.collect import write_folder
from bootlease.node.enrol import enrol as enrol_device
from bootlease.node.logline import Log
from bootlease.node.state import StateDirectory, read_memory
from bootlease.node.tpm.key_kinds import AKAlgorithm

_MODULES: Final = {"run": "node_run", "check": "node_check", "status": "node_status"}


@click.group(name="node", cls=LazyGroup, modules=_MODULES)
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
    check_transport(bundle, allowed=unsafe_plain_http)
    choice = tpm_choice(tcti, ek_algorithm, ak_algorithm)
    say = Log(sys.stderr)
    with StateDirectory(state) as directory, open_tpm(choice, directory, say) as device:
        with contextlib.closing(VerifierClient(bundle)) as client:
            enrolment = enrol_device(client, device, bundle)
        directory.save(directory.load().enrolled(enrolment))
    known = {"node": enrolment.node.hex(), "issuer": bundle.issuer}
    click.echo(json.dumps(known) if as_json else enrolment.node.hex())


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
