"""Write docs/policy.schema.json from the parser's own tables; ``--check`` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from bootlease.policy import policy_schema

PAGE: Final = Path(__file__).with_name("policy.schema.json")


def main() -> None:
    """Write the schema, or compare it."""
    text = json.dumps(policy_schema(), indent=2) + "\n"
    if sys.argv[1:] == ["--check"]:
        if not PAGE.is_file() or PAGE.read_text() != text:
            raise SystemExit(
                "docs/policy.schema.json is not what the parser reads: run `make docs`"
            )
        return
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
