"""Whom a running verifier trusts to vouch for TPMs, changed by an operator's commands."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import httpx2
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding

from bootlease.cli import run
from bootlease.cli.verifier import verifier
from bootlease.endorsement import parse_certificate
from bootlease.errors import MalformedError
from bootlease.testing.attesting_client import AttestingClient, finding_ids
from bootlease.testing.boot import SimulatedBoot
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, default_lease
from bootlease.testing.simulated_node import SimulatedNode
from bootlease.testing.verifier_process import verifier_process


def test_an_operator_imports_a_folder_and_revokes_a_tpm(
    private_folder: Path, local_ca: LocalCA, reference_file: bytes, good_boot: SimulatedBoot
) -> None:
    """A node of a new CA enrols; a list of that CA ends its leases; what was decided replays."""
    other = LocalCA.create("Other TPM")
    node = SimulatedNode(other, boot=good_boot)
    trust = private_folder / "trust" / "OTHR"
    trust.mkdir(parents=True)
    (trust / "root.crt").write_bytes(other.root.public_bytes(Encoding.DER))
    (trust / "ca.cer").write_bytes(other.intermediate_der)
    (trust / "leaf.cer").write_bytes(node.ek_chain()[0])
    with (
        verifier_process(
            private_folder, policy=POLICY, roots=local_ca.roots_pem, references=[reference_file]
        ) as process,
        httpx2.Client(base_url=process.url, timeout=20, trust_env=False) as http,
    ):

        def command(*arguments: str | Path) -> Result:
            """Run a command of the operator's."""
            return CliRunner().invoke(
                verifier,
                [*map(str, arguments), "--verifier", process.url],
                env={"BOOTLEASE_ADMIN_CREDENTIAL": process.credential},
            )

        client = AttestingClient(http, node, (default_lease(),))
        assert finding_ids(client.request_enrolment()) == {"endorsement.chain.untrusted"}

        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        revoking = private_folder / "ca.crl"
        revoking.write_bytes(
            other.revocation_list(
                node.ek_chain()[0],
                this_update=now - dt.timedelta(hours=1),
                next_update=now + dt.timedelta(days=1),
            )
        )
        early = command("add-root", revoking)
        assert isinstance(early.exception, MalformedError)
        assert "trust that CA's certificate first" in str(early.exception)

        added = command("add-root", private_folder / "trust", "--vendor", "OTHR")
        assert "trusted: 2 CA certificates, 0 revocation lists" in added.stdout
        assert "left out OTHR/leaf.cer: no CA certificate" in added.stderr
        client.enrol()
        client.renew()
        assert client.node is not None
        told = command("node", client.node.hex()).stdout
        assert "TPM id:00001014 swtpm" in told
        assert "note: The certificate names a software TPM" in told
        assert "[endorsement.tpm.software]" in told

        made = json.loads(command("add-root", revoking, "--json").stdout)
        assert len(made["roots"]) == 1
        refused = client.present(client.attest())
        assert finding_ids(refused) == {"endorsement.revoked"}

        listed = json.loads(command("roots", "--json").stdout)
        assert parse_certificate(other.intermediate_der).fingerprint.hex() in listed["roots"]
        assert [each["revoked"] for each in listed["revocation_lists"]] == [1]
        shown = command("roots").stdout
        assert "CN=Other TPM Root CA" in shown
        assert "revoked 1, next list due" in shown

    assert run(["replay", "--all", "--data", str(process.folder)]) == 0
