"""Write docs/policy.schema.json and docs/policy.cedarschema; ``--check`` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from bootlease.policy import CEDAR_SCHEMA, policy_schema

FOLDER: Final = Path(__file__).parent


def main() -> None:
    """Write the schemas, or compare them."""
    texts = {
        "policy.schema.json": json.dumps(policy_schema(), indent=2) + "\n",
        "policy.cedarschema": CEDAR_SCHEMA,
    }
    for name, text in texts.items():
        page = FOLDER / name
        if sys.argv[1:] != ["--check"]:
            page.write_text(text)
        elif not page.is_file() or page.read_text() != text:
            raise SystemExit(f"docs/{name} is not what the parser reads: run `make docs`")


if __name__ == "__main__":
    main()
