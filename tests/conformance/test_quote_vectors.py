"""Every quote vector of the corpus gets its verdict, through the command people run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from bootlease.cli.quote import quote
from bootlease.errors import MalformedError

if TYPE_CHECKING:
    from pathlib import Path

# Kind of vector (its name without the key's) -> findings that belong to it.
ACCEPTED = {
    "good",
    "two_banks",
    "sizeofselect_4",
    "pss_good",
    "s_negated",
    # Free by the vectors: a leading zero is normalised; these are reported, and refused
    # only where --parent or a policy asks.
    "leading_zero",
    "signer_empty",
    "clock_unsafe",
    "fw_zero",
}
REFUSED = {
    "1024": "ak.rsa.size",
    "attrs_decrypt": "ak.attributes.decrypt",
    "attrs_no_fixedparent": "ak.attributes.fixed-parent",
    "attrs_not_fixedtpm": "ak.attributes.fixed-tpm",
    "attrs_no_sdo": "ak.attributes.sensitive-data-origin",
    "attrs_no_sign": "ak.attributes.sign",
    "attrs_not_restricted": "ak.attributes.restricted",
    "scheme_null": "ak.scheme.missing",
    "bank_sha1": "quote.bank.missing",
    "bank_sha384": "quote.bank.missing",
    "bank_twice": "quote.selection.bank-twice",
    "empty_bitmap": "quote.selection.empty",
    "no_selection": "quote.selection.empty",
    "pcr30_selected": "quote.selection.pcr-range",
    "pcr7_missing": "quote.pcr.missing",
    "pcr_masquerade": "quote.pcr.missing",
    "sizeofselect_0": "quote.selection.empty",
    "sizeofselect_2": "quote.selection.size",
    "pcrdigest_empty": "quote.pcr-digest.mismatch",
    "pcrdigest_sha1": "quote.pcr-digest.mismatch",
    "pcrdigest_zero": "quote.pcr-digest.mismatch",
    "magic_zero": "quote.magic.wrong",
    "type_certify": "quote.type.wrong",
    "type_creation": "quote.type.wrong",
    "type_nv": "quote.type.wrong",
    "type_time": "quote.type.wrong",
    "nonce_empty": "quote.nonce.mismatch",
    "nonce_other": "quote.nonce.mismatch",
    "nonce_prefix": "quote.nonce.mismatch",
    "nonce_zero_padded": "quote.nonce.mismatch",
    "reset_rollback": "clock.reset-count.rollback",
    "cross_ecc_sig_rsa_key": "quote.signature.scheme-mismatch",
    "scheme_pss_sig_rsassa": "quote.signature.scheme-mismatch",
    "pss_header_pkcs1_body": "quote.signature.scheme-mismatch",
    "pkcs1_header_pss_body": "quote.signature.invalid",
    "sig_bitflip": "quote.signature.invalid",
    "other_key": "quote.signature.invalid",
    "sig_sha1": "quote.signature.hash-mismatch",
    "sig_hash_lie": "quote.signature.hash-mismatch",
    "sig_alg_null": "quote.signature.scheme-refused",
    "sig_hmac": "quote.signature.scheme-refused",
    "ecschnorr": "quote.signature.scheme-refused",
    "ecdaa": "quote.signature.scheme-refused",
    "zero_rs": "quote.signature.range",
    "empty_rs": "quote.signature.range",
    "r_plus_n": "quote.signature.range",
}
MALFORMED = {
    "attest_trailing": "quote.attest.malformed",
    "attest_truncated": "quote.attest.malformed",
    "selcount_ffffffff": "quote.attest.malformed",
    "sizeofselect_255": "quote.attest.malformed",
    "safe_2": "quote.attest.malformed",
    "sig_trailing": "quote.signature.malformed",
}
NOTED = {
    "clock_unsafe": "clock.unsafe",
    "signer_empty": "quote.signer.unnamed",
    "fw_zero": "quote.firmware-version.zero",
    "leading_zero": "quote.signature.padded",
}


def kind_of(name: str) -> str:
    """Return the kind of a vector: ``rsa_nonce_empty`` is ``nonce_empty``."""
    known = ACCEPTED | REFUSED.keys() | MALFORMED.keys()
    kind = name
    while kind not in known and "_" in kind:
        kind = kind.partition("_")[2]
    return kind


def run(vector: dict[str, Any], folder: Path, *extra: str) -> tuple[int, dict[str, Any]]:
    """Run ``bootlease quote verify --json`` on a vector; malformed input counts as exit 2."""
    for option, member in (("attest", "attest"), ("signature", "sig"), ("ak", "ak_public")):
        (folder / option).write_bytes(bytes.fromhex(vector[member]))
    (folder / "pcrs").write_text(json.dumps(vector["pcrs"]))
    policy = vector["policy"]
    pcrs = ",".join(map(str, policy["pcrs"]))
    arguments = [
        "verify",
        *(f"--{option}={folder / option}" for option in ("attest", "signature", "ak", "pcrs")),
        f"--nonce={vector['nonce']}",
        f"--require={policy['bank']}:{pcrs}",
        f"--min-reset-count={policy.get('last_reset', 0)}",
        "--json",
        *extra,
    ]
    result = CliRunner().invoke(quote, arguments)
    code = 2 if isinstance(result.exception, MalformedError) else result.exit_code
    return code, json.loads(result.stdout)


def vectors_in(corpus: Path) -> list[dict[str, Any]]:
    """Read the vectors."""
    vectors: list[dict[str, Any]] = json.loads(
        (corpus / "quote-vectors" / "vectors.json").read_text()
    )
    return vectors


@pytest.mark.corpus
def test_every_vector_gets_its_verdict_and_its_finding(corpus: Path, tmp_path: Path) -> None:
    """Each vector is accepted, refused or malformed as it must be, and says why."""
    wrong = []
    vectors = vectors_in(corpus)
    for vector in vectors:
        name, kind = vector["name"], kind_of(vector["name"])
        code, report = run(vector, tmp_path)
        ids = {finding["id"] for finding in report["findings"]}
        wanted = MALFORMED.get(kind) or REFUSED.get(kind) or NOTED.get(kind)
        expected = 2 if kind in MALFORMED else 1 if kind in REFUSED else 0
        if code != expected or (wanted is not None and wanted not in ids):
            wrong.append((name, code, expected, ids))
        required = {"accept": {0}, "reject": {1, 2}}.get(vector["verdict"], {0, 1, 2})
        assert code in required, name
    assert not wrong
    assert len(vectors) >= 60


@pytest.mark.corpus
def test_a_pem_key_is_noted_as_proving_no_attributes(corpus: Path, tmp_path: Path) -> None:
    """A good quote under a PEM key is accepted, with a note that nothing restricts the key."""
    for vector in vectors_in(corpus):
        if kind_of(vector["name"]) not in {"good", "pss_good"}:
            continue
        code, report = run({**vector, "ak_public": vector["ak_pem"].encode().hex()}, tmp_path)
        assert code == 0
        assert [finding["id"] for finding in report["findings"]] == ["ak.attributes.unproven"]


@pytest.mark.corpus
def test_an_empty_signer_is_refused_where_a_parent_is_given(corpus: Path, tmp_path: Path) -> None:
    """The qualified signer is compared only, and always, when --parent is given."""
    seen = {}
    for vector in vectors_in(corpus):
        if kind_of(vector["name"]) in {"good", "signer_empty"}:
            code, report = run(vector, tmp_path, "--parent=owner")
            seen[vector["name"]] = code, [finding["id"] for finding in report["findings"]]
    wanted = (1, ["quote.signer.unnamed", "quote.signer.mismatch"])
    assert seen["ecc_signer_empty"] == seen["rsa_signer_empty"] == wanted
