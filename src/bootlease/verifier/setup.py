"""Making a verifier: its folder with key, database, first policy, roots, references, credential.

Everything is made in a folder beside the one that is asked for, which then gets its name in one
step: an interrupted ``init`` leaves no half-made verifier behind.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootlease.errors import MalformedError
from bootlease.ports import Role, Sealer, Store
from bootlease.verifier.datadir import (
    DATABASE,
    SETTINGS,
    Settings,
    check_issuer,
    load_keys,
    make_keys,
    sync_folder,
    write_settings,
)
from bootlease.verifier.operators.access import ADMIN_PREFIX, new_secret, secret_digest
from bootlease.verifier.service import build_service

OpenStore = Callable[[Path, Sealer, str], Store]
"""Opens, and makes or migrates as needed, the store in a file, with who signs for its ledger and
what the origins of its shards begin with."""

AUTHOR: Final = "cli:init"
"""Who the ledger says made the verifier: whoever ran ``init`` on its machine."""
_FIRST_CREDENTIAL: Final = "init"


@dataclass(frozen=True, slots=True)
class Founding:
    """What a verifier starts with.

    Attributes:
        issuer: Its URL.
        policy: Its first policy, TOML.
        roots: PEM bundles or DER files of EK roots.
        references: Reference files that the policy names.
    """

    issuer: str
    policy: bytes
    roots: Sequence[bytes]
    references: Sequence[bytes]


def found(data: Path, founding: Founding, open_store: OpenStore) -> str:
    """Make a verifier's folder and return the admin credential, which is kept as a hash only.

    Args:
        data: The folder to make.
        founding: What the verifier starts with.
        open_store: Opens the store in a file.

    Raises:
        MalformedError: Policy, roots, references or issuer are not what they should be, there
            is a verifier already, or the folder cannot be made.
    """
    check_issuer(founding.issuer)
    if (data / SETTINGS).exists():
        raise MalformedError(f"{data} holds a verifier already; it is left as it is")
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise MalformedError(f"{data} exists and is not empty; choose another folder")
    building: Path | None = None
    try:
        data.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{data.name}-", dir=data.parent))
        credential = asyncio.run(_furnish(building, founding, open_store))
        sync_folder(building)
        building.rename(data)
        sync_folder(data.parent)
    except OSError as exc:
        raise MalformedError(f"{data}: {exc.strerror}") from exc
    finally:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)
    return credential


async def _furnish(folder: Path, founding: Founding, open_store: OpenStore) -> str:
    make_keys(folder)
    keys = load_keys(folder, founding.issuer)
    store = open_store(folder / DATABASE, keys.ledger, keys.ledger.key.name)
    try:
        service = await build_service(store, keys, founding.issuer)
        for roots in founding.roots:
            await service.registry.add_roots(roots, author=AUTHOR)
        for reference in founding.references:
            await service.registry.register_reference(reference, author=AUTHOR)
        await service.registry.activate_policy(founding.policy, author=AUTHOR)
        credential = new_secret(ADMIN_PREFIX)
        await store.add_credential(
            secret_digest(credential),
            label=_FIRST_CREDENTIAL,
            now=service.clock.now(),
            author=AUTHOR,
            roles=tuple(Role),
        )
    finally:
        store.close()
    write_settings(folder, Settings(founding.issuer))
    return credential
