"""The witness's HTTP shell where something goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bootlease.ledger import Ed25519Cosigner
from bootlease.ledger.addcheckpoint import AddCheckpoint
from bootlease.testing.memory_ledger import MemoryLedger
from bootlease.token import PrivateKeySigner
from bootlease.witness import Witness
from bootlease.witness import app as module
from bootlease.witness.state import WitnessState

LEDGER = MemoryLedger()
REQUEST = AddCheckpoint(0, (), LEDGER.current.notes[1]).encode()


def built(state: WitnessState) -> FastAPI:
    """Return a witness's application."""
    cosigner = Ed25519Cosigner("w", PrivateKeySigner(Ed25519PrivateKey.generate()))
    return module.build_app(Witness(state, [LEDGER.signer.key], [cosigner]), now=lambda: 1)


def test_without_its_state_it_signs_nothing(tmp_path: Path) -> None:
    """503, and nothing of what went wrong inside."""
    state = WitnessState(tmp_path / "state.db", make=True)
    with TestClient(built(state)) as http:
        assert http.post("/add-checkpoint", content=REQUEST).status_code == 200
        state.close()
        for answer in (http.post("/add-checkpoint", content=REQUEST), http.get("/logs")):
            assert answer.status_code == 503
            assert answer.text == "the witness cannot reach its state\n"


def test_a_request_that_drips_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never finishes holds no place for ever."""
    monkeypatch.setattr(module, "_BODY_TIME", 0.05)
    state = WitnessState(tmp_path / "state.db", make=True)

    async def drip() -> AsyncIterator[bytes]:
        yield b"old 0\n"
        await asyncio.sleep(10)

    async def send() -> httpx2.Response:
        transport = httpx2.ASGITransport(built(state))
        async with httpx2.AsyncClient(transport=transport, base_url="http://w") as http:
            return await http.post("/add-checkpoint", content=drip())

    answer = asyncio.run(send())
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")
    state.close()
