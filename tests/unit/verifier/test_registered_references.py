"""Reference sets of both kinds in a verifier's registry, and through its admin routes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from fastapi.testclient import TestClient

from bootlease.errors import MalformedError
from bootlease.model import HashAlg
from bootlease.ports import Role
from bootlease.reference import (
    AnyReference,
    ReferenceSet,
    ValueReference,
    parse_any_reference,
    serialise_any_reference,
)
from bootlease.store import SQLStore
from bootlease.testing.keys import fresh_keys
from bootlease.testing.scene import IMA_POLICY, IMA_REFERENCE, REFERENCE, files_reference
from bootlease.verifier.app import build_app
from bootlease.verifier.operators.access import ADMIN_PREFIX, new_secret, secret_digest
from bootlease.verifier.registry import load_snapshot
from bootlease.verifier.service import Service, build_service

AUTHOR: Final = "operator"
JSON: Final = {"content-type": "application/json"}
BOOT: Final = ReferenceSet(REFERENCE, "1", HashAlg.SHA256, {4: ValueReference((bytes(32),))})
FILES: Final = files_reference({"/usr/bin/a": b"a"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLStore]:
    """An empty store."""
    keys = fresh_keys("https://verifier.example")
    opened = SQLStore.open(tmp_path / "verifier.db", keys.ledger, keys.ledger.key.name)
    yield opened
    opened.close()


@pytest.fixture
def service(store: SQLStore) -> Service:
    """A verifier without a policy."""
    issuer = "https://verifier.example"
    return asyncio.run(build_service(store, fresh_keys(issuer), issuer))


def register(service: Service, *references: AnyReference) -> list[bool]:
    """Register sets; tell which were new."""

    async def story() -> list[bool]:
        return [
            (
                await service.registry.register_reference(
                    serialise_any_reference(each), author=AUTHOR
                )
            )[1]
            for each in references
        ]

    return asyncio.run(story())


def activate(service: Service, policy: str = IMA_POLICY) -> None:
    """Activate a policy."""
    asyncio.run(service.registry.activate_policy(policy.encode(), author=AUTHOR))


def test_sets_of_both_kinds_are_registered_side_by_side(service: Service, store: SQLStore) -> None:
    """Each list of the policy accepts sets of its kind, newest first, also after a restart."""
    newer = files_reference({"/usr/bin/a": b"b"}, version="2")
    assert register(service, BOOT, FILES, newer, FILES) == [True, True, True, False]
    activate(service)
    for now in (service.registry.now, asyncio.run(load_snapshot(store))):
        assert now.references == (BOOT, FILES, newer)
        assert now.accepted == (BOOT,)
        assert now.accepted_ima == (newer, FILES)


def test_a_name_in_the_wrong_list_accepts_nothing(service: Service) -> None:
    """A set of files under the name of a boot set is no boot set, and the other way round."""
    twin = ReferenceSet(IMA_REFERENCE, "1", HashAlg.SHA256, BOOT.pcrs)
    register(service, BOOT, twin)
    activate(service)
    assert service.registry.now.accepted == (BOOT,)
    assert service.registry.now.accepted_ima == ()


def test_the_next_policy_must_name_registered_sets_of_files(service: Service) -> None:
    """A typo in ima.accept refuses the activation, not the fleet."""
    register(service, BOOT, FILES)
    activate(service)
    with pytest.raises(MalformedError, match=r"ima\.accept names typo"):
        activate(service, IMA_POLICY.replace(f'"{IMA_REFERENCE}"', '"typo"'))
    with pytest.raises(MalformedError, match="of that kind"):
        activate(service, IMA_POLICY.replace(f'"{IMA_REFERENCE}"', f'"{REFERENCE}"'))


def test_a_set_at_hand_is_not_read_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change elsewhere costs nothing for a set of a hundred thousand files."""
    register(service, BOOT, FILES)
    known = service.registry.now.references

    def forbid(_: bytes) -> AnyReference:
        raise AssertionError("a set was read again")

    monkeypatch.setattr("bootlease.verifier.registry.parse_any_reference", forbid)
    asyncio.run(service.registry.reload())
    assert all(new is old for new, old in zip(service.registry.now.references, known, strict=True))


@pytest.fixture
def admin(service: Service, store: SQLStore) -> Iterator[TestClient]:
    """An operator's client."""
    credential = new_secret(ADMIN_PREFIX)
    asyncio.run(
        store.add_credential(
            secret_digest(credential), label="test", now=1, author=AUTHOR, roles=tuple(Role)
        )
    )
    asyncio.run(service.registry.reload())
    headers = {"authorization": f"Bearer {credential}"}
    with TestClient(build_app(service), headers=headers) as client:
        yield client


def test_admin_routes_know_both_kinds(service: Service, admin: TestClient) -> None:
    """Sets are registered, listed with their kind, and given back as files."""
    for reference in (BOOT, FILES):
        content = serialise_any_reference(reference)
        assert admin.post("/v1/admin/references", content=content, headers=JSON).status_code == 201
        assert admin.post("/v1/admin/references", content=content, headers=JSON).status_code == 200
    activate(service)
    listed = admin.get("/v1/admin/references").json()["references"]
    assert [(each["kind"], each["name"], each["accepted"]) for each in listed] == [
        ("boot", REFERENCE, True),
        ("ima", IMA_REFERENCE, True),
    ]
    shown = admin.get(f"/v1/admin/references/{IMA_REFERENCE}")
    assert parse_any_reference(shown.content) == FILES


def test_a_large_set_is_taken_and_a_larger_one_is_not(service: Service, admin: TestClient) -> None:
    """Sets of files have room that no other upload has."""
    many = files_reference({f"/usr/lib/{number:06}/library.so": b"x" for number in range(45_000)})
    content = serialise_any_reference(many)
    assert len(content) > service.limits.admin
    assert admin.post("/v1/admin/references", content=content, headers=JSON).status_code == 201
    too_large = b" " * (service.limits.reference + 1)
    assert admin.post("/v1/admin/references", content=too_large, headers=JSON).status_code == 413
