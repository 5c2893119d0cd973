"""Options that say what a verifier of proofs trusts, and where what was recorded is read.

Nothing of what is trusted comes from the proof.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from bootlease.cli.admin import CREDENTIAL_VARIABLE, admin_client

if TYPE_CHECKING:
    from bootlease.audit import ProofTrust
    from bootlease.cli.admin_client import AdminClient
    from bootlease.ledger import NoteKey
    from bootlease.token import KeySet

R = TypeVar("R")

MAX_KEYS: Final = 256 * 1024
existing_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True, slots=True)
class TrustOptions:
    """The options as given.

    Attributes:
        bundle: File with a join bundle.
        ledger_key: The ledger's key, or a file that holds it.
        token_keys: File with the token keys.
        witnesses: Keys of witnesses, or files that hold one.
        quorum: How many witnesses must have cosigned; None for all.
        roots: PEM file of TPM manufacturers' roots.
    """

    bundle: Path | None
    ledger_key: str | None
    token_keys: Path | None
    witnesses: tuple[str, ...]
    quorum: int | None
    roots: Path | None

    def load(self) -> ProofTrust:
        """Read the keys.

        Raises:
            MalformedError: A key, key set or bundle does not parse.
            click.UsageError: Too little is given, or too much.
        """
        from bootlease.audit import ProofTrust  # noqa: PLC0415 - heavy
        from bootlease.cli.files import naming, read_file  # noqa: PLC0415 - heavy
        from bootlease.endorsement import TrustedRoots, parse_certificates  # noqa: PLC0415 - heavy
        from bootlease.ledger import witness_names  # noqa: PLC0415 - heavy
        from bootlease.node.bundle import parse_bundle  # noqa: PLC0415 - heavy

        if self.bundle is not None:
            if self.ledger_key is not None or self.token_keys is not None:
                raise click.UsageError("--trust holds both keys: give no others beside it")
            with naming(f"--trust {self.bundle}"):
                bundle = parse_bundle(read_file(self.bundle, at_most=MAX_KEYS))
            ledger, tokens = bundle.ledger_key, bundle.keys
        elif self.ledger_key is None or self.token_keys is None:
            raise click.UsageError("give --trust, or --ledger-key and --token-keys")
        else:
            ledger = read_vkey(self.ledger_key, "--ledger-key")
            tokens = read_token_keys(self.token_keys)
        roots = None
        if self.roots is not None:
            with naming(f"--roots {self.roots}"):
                read = read_file(self.roots, at_most=16 * MAX_KEYS)
                roots = TrustedRoots.of(parse_certificates(read))
        witnesses = read_witnesses(self.witnesses)
        names = witness_names(witnesses)
        quorum = len(names) if self.quorum is None else self.quorum
        if quorum > len(names):
            raise click.UsageError(f"--quorum {quorum} needs as many witnesses with --witness")
        return ProofTrust(ledger, tokens, witnesses, quorum, roots)


def read_vkey(text: str, option: str) -> NoteKey:
    """Return a C2SP verifier key, given as itself or as a file that holds it, or a join bundle.

    Raises:
        MalformedError: It is none.
    """
    from bootlease.cli.files import naming, read_file  # noqa: PLC0415 - heavy
    from bootlease.errors import MalformedError  # noqa: PLC0415 - heavy
    from bootlease.ledger import NoteKey  # noqa: PLC0415 - heavy
    from bootlease.node.bundle import parse_bundle  # noqa: PLC0415 - heavy

    with naming(option):
        if "+" in text:
            return NoteKey.parse(text.strip())
        if not Path(text).is_file():
            raise MalformedError(f"{text!r} is neither a key (name+id+base64) nor a file with one")
        data = read_file(Path(text), at_most=MAX_KEYS)
        with naming(text):
            if data.lstrip().startswith(b"{"):
                return parse_bundle(data).ledger_key
            return NoteKey.parse(data.decode(errors="replace").strip())


def read_token_keys(path: Path) -> KeySet:
    """Return the token keys in a file: a JWK Set, COSE key set, PEM key or join bundle.

    Raises:
        MalformedError: It holds none.
    """
    from bootlease.cli.files import naming, read_file  # noqa: PLC0415 - heavy
    from bootlease.node.bundle import parse_bundle  # noqa: PLC0415 - heavy
    from bootlease.token import KeySet, strictjson  # noqa: PLC0415 - heavy

    with naming(f"--token-keys {path}"):
        data = read_file(path, at_most=MAX_KEYS)
        if data.lstrip().startswith(b"{") and "ledger_key" in strictjson.parse_object(data):
            return parse_bundle(data).keys
        return KeySet.parse(data)


def read_witnesses(texts: tuple[str, ...]) -> tuple[NoteKey, ...]:
    """Return keys of witnesses.

    Raises:
        MalformedError: One is no verifier key, or its key does not cosign.
        click.UsageError: A key is given twice.
    """
    from bootlease.errors import MalformedError  # noqa: PLC0415 - heavy
    from bootlease.ledger import SignatureType  # noqa: PLC0415 - heavy

    keys = tuple(read_vkey(text, "--witness") for text in texts)
    for key in keys:
        if key.kind is SignatureType.ED25519:
            raise MalformedError(f"--witness: {key.name} has a key that does not cosign")
    if len({key.public for key in keys}) != len(keys):
        raise click.UsageError("--witness: a key is given twice")
    return keys


witness_option = click.option(
    "--witness", "witnesses", multiple=True, help="Key of a witness (name+id+base64), or a file."
)


token_keys_option = click.option(
    "--token-keys", type=existing_file, help="JWK Set, COSE key set, PEM key or join bundle."
)


def with_trust(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options of trust, as its first argument."""

    @click.option("--trust", "bundle", type=existing_file, help="Join bundle: holds both keys.")
    @click.option("--ledger-key", help="The ledger's key (name+id+base64), or a file with it.")
    @token_keys_option
    @witness_option
    @click.option(
        "--quorum",
        type=click.IntRange(min=0),
        help="How many of these witnesses must have cosigned; all by default.",
    )
    @click.option("--roots", type=existing_file, help="Your own PEM roots of TPM manufacturers.")
    @functools.wraps(command)
    def wrapped(
        *,
        bundle: Path | None,
        ledger_key: str | None,
        token_keys: Path | None,
        witnesses: tuple[str, ...],
        quorum: int | None,
        roots: Path | None,
        **options: object,
    ) -> R:
        trust = TrustOptions(bundle, ledger_key, token_keys, witnesses, quorum, roots)
        return command(trust, **options)

    return wrapped


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Where what a verifier recorded is read: one of two places.

    Attributes:
        data: The verifier's folder.
        url: Where it runs.
        credential_file: File with the admin credential.
        ca: PEM roots for its TLS certificate.
        unsafe_plain_http: Send the credential over a network without TLS.
    """

    data: Path | None
    url: str | None
    credential_file: Path | None
    ca: Path | None
    unsafe_plain_http: bool

    def admin(self) -> AdminClient:
        """Return the client of the running verifier.

        Raises:
            click.UsageError: An option is not what it should be, or there is no credential.
        """
        return admin_client(
            self.url or "",
            self.credential_file,
            ca=self.ca,
            unsafe_plain_http=self.unsafe_plain_http,
            option="--url",
        )


def with_source(*, url_note: str = "") -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command the options that lead to what is recorded, as its first argument.

    Args:
        url_note: What the help says of --url besides.
    """

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @click.option(
            "--data",
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            help="The verifier's folder; it may be running.",
        )
        @click.option("--url", help=f"A running verifier's URL, instead of --data{url_note}.")
        @click.option(
            "--credential-file",
            type=existing_file,
            help="With --url: file with the admin credential; else the variable"
            f" {CREDENTIAL_VARIABLE}.",
        )
        @click.option(
            "--ca", type=existing_file, help="With --url: PEM roots for its TLS certificate."
        )
        @click.option(
            "--unsafe-plain-http",
            is_flag=True,
            help="With --url: send the credential over a network without TLS.",
        )
        @functools.wraps(command)
        def wrapped(
            *,
            data: Path | None,
            url: str | None,
            credential_file: Path | None,
            ca: Path | None,
            unsafe_plain_http: bool,
            **options: object,
        ) -> R:
            if (data is None) == (url is None):
                raise click.UsageError(
                    "give either --data, the verifier's folder, or --url, where it runs"
                )
            source = SourceOptions(data, url, credential_file, ca, unsafe_plain_http)
            return command(source, **options)

        return wrapped

    return decorate
