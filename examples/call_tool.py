"""Calls a URL with the lease that the node's agent holds, and prints what it is answered.

    bootlease node run --token-file token --key-file key.pem ... &
    python examples/call_tool.py https://tools.example/search?q=tpm

An answer that goes on is printed as it comes, until the relying party cuts it off.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from urllib.parse import urljoin

import httpx2

from bootlease.errors import BootleaseError
from bootlease.relyingparty.auth import LeaseAuth
from bootlease.relyingparty.tokensource import FileTokenSource, TokenSource


def call(url: str, source: TokenSource) -> int:
    """Print the answer line by line and return its status."""
    auth = LeaseAuth(source, origin=urljoin(url, "/"))
    with httpx2.Client(auth=auth, timeout=10) as client, client.stream("GET", url) as answer:
        print(answer.status_code, answer.headers.get("WWW-Authenticate", answer.reason_phrase))
        for line in answer.iter_lines():
            print(line, flush=True)
        return answer.status_code


def main() -> None:
    """Call once; end with 1 where the call is refused or cut off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--token", type=Path, default="token", help="kept by the node's agent")
    parser.add_argument("--key", type=Path, default="key.pem", help="the same")
    parser.add_argument("url")
    options = parser.parse_args()
    try:
        status = call(options.url, FileTokenSource(options.token, options.key))
    except httpx2.RemoteProtocolError:
        sys.exit("cut off in the middle of the answer")
    except (BootleaseError, httpx2.TransportError, ValueError) as exc:
        sys.exit(f"no answer: {exc}")
    sys.exit(status != httpx2.codes.OK)


if __name__ == "__main__":
    main()
