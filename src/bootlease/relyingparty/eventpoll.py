"""Polls a verifier for security events.

Specification: RFC 8936 §2. A thread asks, waits at the verifier until there is something, and says
with the next request what became of it. Nothing has to reach this program from outside.

An event that is not acknowledged comes again, so a poller that is killed loses none.
"""

from __future__ import annotations

import random
import threading
import time
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from bootlease.errors import BootleaseError, MalformedError, TransportError, VerificationError
from bootlease.relyingparty.events import EventReceiver, error_members
from bootlease.relyingparty.fetching import TIMEOUT, require_safe
from bootlease.token import strictjson
from bootlease.token.secevent import MAX_SET

WAIT: Final = 60.0
"""Seconds that an answer may take: the verifier waits for events for less."""
MOST_EVENTS: Final = 32
MAX_ANSWER: Final = (MOST_EVENTS + 1) * (MAX_SET + 256)
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0


class EventPoller:
    """Polls for the events of one stream."""

    def __init__(
        self,
        receiver: EventReceiver,
        url: str,
        secret: str,
        *,
        client: httpx2.Client | None = None,
    ) -> None:
        """Prepare to poll; nothing is asked yet.

        Args:
            receiver: Takes the events.
            url: The stream's endpoint; https unless on this machine.
            secret: The stream's secret.
            client: Lends its TLS trust.

        Raises:
            ValueError: ``url`` is not https.
        """
        self._receiver = receiver
        self._url = require_safe(url, "a stream of events")
        self._headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        self._owns = client is None
        self._client = client or httpx2.Client(timeout=TIMEOUT)
        self._done: list[str] = []
        self._refused: dict[str, dict[str, str]] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def poll(self, *, wait: bool = False) -> int:
        """Ask once and act on what there is; what became of it is said by the next poll.

        Args:
            wait: Wait at the verifier until there is something.

        Returns:
            How many events were taken note of, those that came again and those refused among them.

        Raises:
            TransportError: The verifier cannot be reached, or does not answer as one; or some of
                the events could not be acted on.
        """
        answered = self._ask({"maxEvents": MOST_EVENTS, "returnImmediately": not wait})
        trouble: TransportError | None = None
        for jti, text in answered.items():
            try:
                self._take(jti, text)
            except (MalformedError, VerificationError) as exc:
                self._refused[jti] = error_members(exc)
            except TransportError as exc:
                trouble = exc
            else:
                self._done.append(jti)
        if trouble is not None:
            raise trouble
        return len(self._done) + len(self._refused)

    def start(self) -> None:
        """Poll from a thread, until ``close``."""
        self._thread = threading.Thread(target=self._run, name="bootlease-events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop polling.

        A request that waits at the verifier ends by itself; what was not acknowledged comes again
        to whoever polls next.
        """
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(TIMEOUT)
        # A connection that is still waited for belongs to the thread.
        if self._owns and not (self._thread is not None and self._thread.is_alive()):
            self._client.close()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.close()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopped.is_set():
            try:
                self.poll(wait=True)
                pause = FIRST_PAUSE
            except BootleaseError:
                # Whatever it was, events wait at the verifier, and nothing rests on them alone.
                self._stopped.wait(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
                pause = min(2 * pause, LONGEST_PAUSE)

    def _take(self, jti: str, text: object) -> None:
        if type(text) is not str:
            raise MalformedError("an event is text")
        self._receiver.take(text, name=jti)

    def _ask(self, members: dict[str, Any]) -> dict[str, Any]:
        done, refused = self._done, self._refused
        if done:
            members["ack"] = done
        if refused:
            members["setErrs"] = refused
        answer = self._post(strictjson.serialise(members))
        self._done, self._refused = [], {}
        try:
            sets = strictjson.parse_object(answer).get("sets")
        except MalformedError as exc:
            raise TransportError(f"{self._url} does not answer with events: {exc}") from exc
        if type(sets) is not dict or len(sets) > MOST_EVENTS:
            raise TransportError(f"{self._url} does not answer with events")
        return sets

    def _post(self, content: bytes) -> bytes:
        deadline = time.monotonic() + WAIT
        timeout = httpx2.Timeout(TIMEOUT, read=WAIT)
        body = bytearray()
        try:
            with self._client.stream(
                "POST",
                self._url,
                content=content,
                headers=self._headers,
                timeout=timeout,
                follow_redirects=False,
            ) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise TransportError(f"{self._url} answered with too much")
                    # A byte a second passes every timeout of a single read.
                    if time.monotonic() > deadline:
                        raise TransportError(f"{self._url} answered too slowly")
        except httpx2.HTTPError as exc:
            raise TransportError(f"cannot reach {self._url}: {exc}") from exc
        if response.status_code != httpx2.codes.OK:
            raise TransportError(f"{self._url} answered {response.status_code}")
        return bytes(body)
