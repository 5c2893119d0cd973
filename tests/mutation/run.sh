#!/bin/sh
# Changes the code of tokens, lineage, delegation and relying party, one small change at a time, and
# fails where no test notices one that tests/mutation/accepted.toml does not name. Writes
# docs/mutation.md. Run by `make mutants`; takes about ten minutes on two processors.
#
#   tests/mutation/run.sh [FILE...]     files below src/bootlease; by default those three folders
set -eu
cd "$(dirname "$0")/../.."
root=$PWD python=$PWD/.venv/bin/python
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ $# -gt 0 ]; then
  page=--part
else
  page="--out $root/docs/mutation.md --date $(date -u +%Y-%m-%d)"
  set -- 'token/*.py' 'lineage/*.py' 'relyingparty/*.py'
fi

# The tree may be worked on meanwhile.
cp -r src tests fixtures docs pyproject.toml README.md "$scratch"
cd "$scratch"
export PYTHONPATH="$scratch/src:$scratch"
"$python" -m tests.mutation.generate src mutants.json "$@"
"$python" -m pytest -p tests.mutation.plugin --hypothesis-profile=mutants -q \
  -p no:cacheprovider -o faulthandler_timeout=0 --capture=no \
  -k 'not ten_thousand and not neither_fastmcp' \
  --mutants mutants.json --mutant-results results.json \
  ${MUTANTS_AT_ONCE:+--mutants-at-once "$MUTANTS_AT_ONCE"} \
  tests/unit/token tests/unit/lineage tests/unit/relyingparty >run.log 2>&1 ||
  { tail -c 4000 run.log >&2; exit 1; }
# Two options, not one with blanks in it.
# shellcheck disable=SC2086
"$python" -m tests.mutation.report mutants.json results.json $page
