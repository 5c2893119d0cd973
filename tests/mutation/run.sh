#!/bin/sh
# Changes the code of tokens, lineage, delegation and relying party, one small change at a time, and
# lists those that no test notices. Run by `make mutants`; takes the better part of an hour.
#
#   tests/mutation/run.sh [FILE...]     files below src/bootlease; by default those four parts
#
# A change of a message's words alone is not counted: what a person reads is no check.
set -eu
cd "$(dirname "$0")/../.."
python=$PWD/.venv/bin/python
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
[ $# -gt 0 ] || set -- 'token/*.py' 'lineage/*.py' 'relyingparty/*.py'

cp -r src tests fixtures docs pyproject.toml README.md "$scratch"
cd "$scratch"
{
  echo '[tool.mutmut]'
  echo 'source_paths = ["src/bootlease"]'
  printf 'only_mutate = ['
  for each; do printf '"src/bootlease/%s", ' "$each"; done
  echo ']'
  echo 'also_copy = ["fixtures", "docs", "README.md"]'
  echo 'pytest_add_cli_args = ["--hypothesis-profile=quick", "-p", "no:cacheprovider", "-k", "not ten_thousand and not neither_fastmcp"]'
  echo 'pytest_add_cli_args_test_selection = ["tests/unit/token", "tests/unit/lineage", "tests/unit/relyingparty"]'
} >>pyproject.toml

"$python" -m mutmut run ${MUTANTS_AT_ONCE:+--max-children "$MUTANTS_AT_ONCE"} >run.log 2>&1 ||
  { tail -c 4000 run.log >&2; exit 1; }
"$python" tests/mutation/survivors.py
