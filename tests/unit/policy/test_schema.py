"""The JSON Schema for editors says what the parser says, as far as one key goes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from bootlease.errors import MalformedError
from bootlease.policy import check_policy, parse_policy, policy_schema, with_cedar
from bootlease.policy.file import TABLES
from bootlease.testing.examples import policy_text
from bootlease.testing.scene import POLICY

ROOT: Final = Path(__file__).parents[3]
SCHEMA: Final = policy_schema()
KNOWN: Final = frozenset(
    {
        *("$schema", "title", "description", "type", "const", "enum", "not", "oneOf"),
        *("properties", "required", "additionalProperties"),
        *("items", "uniqueItems", "minItems", "maxItems"),
        *("minimum", "maximum", "pattern", "minLength", "maxLength"),
    }
)
TYPES: Final[dict[str, type]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
}


def valid(schema: dict[str, Any], value: Any) -> bool:
    """Tell whether a value satisfies a schema, by the keywords that this one uses."""
    assert schema.keys() <= KNOWN
    if "oneOf" in schema:
        return sum(valid(each, value) for each in schema["oneOf"]) == 1
    if "const" in schema:
        return type(value) is type(schema["const"]) and value == schema["const"]
    if "enum" in schema:
        return any(type(value) is type(each) and value == each for each in schema["enum"])
    if type(value) is not TYPES[schema["type"]] or (
        "not" in schema and valid(schema["not"], value)
    ):
        return False
    if isinstance(value, dict):
        properties = schema["properties"]
        assert schema["additionalProperties"] is False
        return value.keys() == {*schema["required"]} == properties.keys() and all(
            valid(properties[key], each) for key, each in value.items()
        )
    if isinstance(value, list):
        return (
            schema.get("minItems", 0) <= len(value) <= schema["maxItems"]
            and len({json.dumps(each) for each in value}) == len(value)
            and all(valid(schema["items"], each) for each in value)
        )
    if isinstance(value, str):
        return (
            schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1 << 20)
            and re.search(schema.get("pattern", ""), value) is not None
        )
    return type(value) is bool or schema["minimum"] <= value <= schema["maximum"]


def parses(file: dict[str, Any]) -> bool:
    """Tell whether the parser takes a decoded file, written as TOML again."""
    lines = []
    for key, value in file.items():
        table = value.items() if isinstance(value, dict) else ()
        lines += [f"{key}.{name} = {json.dumps(each)}" for name, each in table]
        lines += [] if isinstance(value, dict) else [f"{key} = {json.dumps(value)}"]
    try:
        parse_policy("\n".join(lines))
    except MalformedError:
        return False
    return True


IMA: Final = """[ima]
appraise = "required"
accept = ["debian-12"]
unlisted = "refuse"
violations = "note"
signatures = "ignored"
"""
WITH_IMA: Final = POLICY.replace('[ima]\nappraise = "off"\n', IMA).replace("9, 14]", "9, 10, 14]")


@pytest.mark.parametrize("text", [POLICY, policy_text(), WITH_IMA])
def test_sound_policies_satisfy_the_schema(text: str) -> None:
    """An editor does not mark what the parser takes."""
    assert parse_policy(text)
    assert valid(SCHEMA, tomllib.loads(text))


def test_the_example_names_its_schema() -> None:
    """Whoever copies the example has an editor's help at once."""
    text = (ROOT / "examples/policy.toml").read_text()
    assert text.startswith("#:schema ")
    assert valid(SCHEMA, tomllib.loads(text))


def test_the_schema_has_the_keys_of_the_parser() -> None:
    """Neither more nor fewer."""
    assert set(SCHEMA["properties"]) == {"schema", "id", "mode", *TABLES}
    for name, keys in TABLES.items():
        table = SCHEMA["properties"][name]
        table = table["oneOf"][1] if "oneOf" in table else table
        assert set(table["properties"]) == set(keys)


def _values() -> list[tuple[str, object]]:
    words = ["", "x", "*", "a b", "required", "off", "refuse", "note", "sha1", "sha256", "A/B/C"]
    texts = [[], [""], ["a"], ["a", "a"], ["*"], ["sha1"], ["sha256"], ["ab" * 32], ["x" * 300]]
    numbers: list[object] = [-1, 0, 1, 64, 65, 900, 901, 1.0, True]
    lists: list[object] = [[0], [-1], [24], [16], [0, 0], [True], [7, 2, 5, 14]]
    paths = [f"{name}.{key}" for name, keys in TABLES.items() for key in keys]
    return [
        (path, value)
        for path in ("schema", "id", "mode", *paths)
        for value in (*words, *texts, *numbers, *lists, {"a": 1})
    ]


# What relates one key to another, or needs a table of vendors, is left to the parser.
RELATED: Final = frozenset(
    {
        *("quote.pcrs", "boot.phases", "enrolment.admit", "enrolment.allow_ek"),
        *("enrolment.vendors", "ima.appraise"),
        *("lease.unsafe_bearer_audiences", "authorization.cedar"),
        *("enrolment.refuse_firmware", "enrolment.unsafe_software_tpm"),
        *(f"boot.{key}" for key in TABLES["boot"]),
    }
)


def test_the_schema_is_as_strict_as_the_parser() -> None:
    """For each key and many values: what the parser takes is valid, and nothing else is."""
    for path, value in _values():
        file = tomllib.loads(WITH_IMA)
        name, _, key = path.partition(".")
        if key:
            file[name][key] = value
        else:
            file[name] = value
        taken, marked = parses(file), not valid(SCHEMA, file)
        assert not (taken and marked), (path, value)
        if path not in RELATED:
            assert taken != marked, (path, value)


@pytest.mark.parametrize("path", [f"{name}.{key}" for name, keys in TABLES.items() for key in keys])
def test_a_missing_key_is_marked(path: str) -> None:
    """Every key is required."""
    file = tomllib.loads(WITH_IMA)
    name, _, key = path.partition(".")
    del file[name][key]
    assert not valid(SCHEMA, file)


def test_the_published_schema_is_current() -> None:
    """docs/policy.schema.json is what the parser reads."""
    run = subprocess.run(
        [sys.executable, "docs/write_policy_schema.py", "--check"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_the_example_is_the_same_with_its_cedar_policies_apart() -> None:
    """An operator may keep either form."""
    text = (ROOT / "examples/policy.toml").read_text()
    cedar = (ROOT / "examples/scopes.cedar").read_text()
    apart = with_cedar(text[: text.index("[authorization]")], cedar)
    assert parse_policy(apart).digest == parse_policy(text).digest
    assert check_policy(parse_policy(text), None, now=0) == ()
