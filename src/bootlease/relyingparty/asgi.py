"""ASGI middleware: no request without a lease that counts, and none that outlives it.

Specifications: ASGI 3.0; RFC 9449 §7 (DPoP-bound requests). Each request is checked before its body
is read. While it is answered its lease is watched: when it expires, is revoked, or can no longer be
known to count, the application is stopped and the answer cut (``guarded``).

The URL that a proof must name begins with ``base_url``, which is configuration: ``Host`` and
``X-Forwarded-*`` are what somebody wrote into a request. A proof covers neither query nor body.

Not handled: event loops other than asyncio's; HTTP/2 or /3 push.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from bootlease.errors import BootleaseError, VerificationError
from bootlease.model import Finding
from bootlease.relyingparty.checker import CheckedRequest, TokenChecker
from bootlease.relyingparty.guarded import GUARD, App, Guarded, Receive, Scope, Send, refuse
from bootlease.relyingparty.headers import presented
from bootlease.relyingparty.refusals import refusal_for
from bootlease.relyingparty.rules import BY_HANDLER, PUBLIC, Need, Rules

STATE: Final = "bootlease"
"""``request.state.bootlease`` is the ``CheckedRequest``."""

TICK: Final = 0.1
"""Seconds between looks at whether the leases of requests under way still count."""

THREADS: Final = 8
"""Checks at one time: one may have to wait for the verifier, and must not stop the event loop."""

_SCHEMES: Final = frozenset({"http", "https"})


class LeaseMiddleware:
    """Lets a request pass whose sender proves a lease that counts and covers it."""

    def __init__(
        self,
        app: App,
        *,
        checker: TokenChecker,
        base_url: str,
        rules: Rules | Mapping[str, Need],
    ) -> None:
        """Guard ``app``.

        Args:
            app: The application.
            checker: Checks tokens and proofs.
            base_url: What precedes the application's paths in the URLs that clients see, such as
                ``https://tools.example``.
            rules: Which scope each request needs.

        Raises:
            ValueError: ``base_url`` is none, or a rule is none.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in _SCHEMES or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{base_url!r:.80} is not a URL such as https://tools.example")
        self._app = app
        self._checker = checker
        self._base_url = base_url.rstrip("/")
        self._rules = rules if isinstance(rules, Rules) else Rules(rules)
        self._threads = concurrent.futures.ThreadPoolExecutor(THREADS, "bootlease-check")
        # Of its own: requests that wait for keys must not keep answers from being cut.
        self._watcher = concurrent.futures.ThreadPoolExecutor(1, "bootlease-watch")
        self._live: set[Guarded] = set()
        self._watch: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] not in {"http", "websocket"}:
            raise ValueError(f"nothing is known of {scope['type']}")
        try:
            method, path, raw_path = _target(scope)
            need = self._rules.need(method, path, raw_path)
            if need is PUBLIC:
                await self._app(scope, receive, send)
                return
            checked = await self._checked(scope, method, raw_path, need)
        except BootleaseError as exc:
            await refuse(scope, send, refusal_for(exc))
            return
        await self._answer(scope, receive, send, checked, need)

    async def _checked(
        self, scope: Scope, method: str, raw_path: bytes, need: Need
    ) -> CheckedRequest:
        authorization, dpop = presented(scope["headers"])
        url = self._base_url + raw_path.decode("ascii")

        def check() -> CheckedRequest:
            return self._checker.check_request(
                authorization=authorization,
                dpop=dpop,
                method=method,
                url=url,
                scope=need if isinstance(need, str) else None,
            )

        return await asyncio.get_running_loop().run_in_executor(self._threads, check)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, checked: CheckedRequest, need: Need
    ) -> None:
        guarded = Guarded(scope, send, self._checker, checked, scope_due=need is BY_HANDLER)
        state = {**scope.get("state", {}), STATE: checked}
        inner = {**scope, "state": state, GUARD: guarded}
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._checker.remaining(checked.token), guarded.expire)
        self._begin_watch(guarded)
        task = loop.create_task(_run(self._app, inner, receive, guarded.send))
        try:
            await asyncio.wait({task, guarded.over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            self._live.discard(guarded)
            if not task.done():
                # Not awaited: a handler in a thread cannot be stopped, the connection can.
                task.add_done_callback(_forget)
                task.cancel()
        if not guarded.over.done():
            task.result()
        await guarded.finish()

    def _begin_watch(self, guarded: Guarded) -> None:
        self._live.add(guarded)
        loop = asyncio.get_running_loop()
        watch = self._watch
        # A loop that was closed never finishes its tasks.
        if watch is None or watch.done() or watch.get_loop() is not loop:
            self._watch = loop.create_task(self._watch_leases())

    async def _watch_leases(self) -> None:
        loop = asyncio.get_running_loop()
        while self._live_in(loop):
            await asyncio.sleep(TICK)
            watched = [each for each in self._live_in(loop) if not each.complete]
            for guarded, error in await loop.run_in_executor(self._watcher, _judge, watched):
                guarded.end(error)

    def _live_in(self, loop: asyncio.AbstractEventLoop) -> list[Guarded]:
        # What a loop that was closed left behind can be neither answered nor ended: to try would
        # end the watch, and with it the watch over all others.
        return [each for each in tuple(self._live) if each.over.get_loop() is loop]


async def _run(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def _judge(watched: Sequence[Guarded]) -> list[tuple[Guarded, BootleaseError]]:
    verdicts = ((guarded, guarded.judge()) for guarded in watched)
    return [(guarded, error) for guarded, error in verdicts if error is not None]


def _forget(task: asyncio.Task[None]) -> None:
    # What a stopped application still raises is nobody's business; unread, asyncio would log it.
    if not task.cancelled():
        task.exception()


def _target(scope: Scope) -> tuple[str, str, bytes]:
    """Return method, path as the router reads it, and path as it was sent.

    Raises:
        VerificationError: The request's target is no path.
    """
    raw_path, path, root = scope.get("raw_path"), scope["path"], scope.get("root_path", "")
    if not isinstance(raw_path, bytes) or not raw_path.startswith(b"/") or not raw_path.isascii():
        raise VerificationError(
            Finding("request.path.malformed", "The request's target is not a plain path.")
        )
    if root and path.startswith(f"{root}/"):
        path = path[len(root) :]
    return scope.get("method", "GET"), path, raw_path.partition(b"?")[0]
