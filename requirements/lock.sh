#!/bin/sh
# Pins what pyproject.toml and build.in allow, with the hashes of every published file.
# Run by `make lock`; `make lock ARGS=--upgrade` moves to the newest versions.
#
# base.txt: verifier and relying party, from wheels alone. node.txt: the agent, too.
# dev.txt: everything but the fuzzer, which is in fuzz.txt, and the mutation tester, which is in
# mutation.txt. build.txt: what installs and builds the others.
set -eu
cd "$(dirname "$0")/.."

# A hash must be that of the published file, never of one from a local mirror or folder.
unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL
export PIP_CONFIG_FILE=/dev/null CUSTOM_COMPILE_COMMAND='make lock'

pin() {
  .venv/bin/python -m piptools compile --quiet --no-config --generate-hashes --allow-unsafe \
    --strip-extras --no-emit-options --no-emit-index-url --no-emit-trusted-host \
    --no-emit-find-links "$@"
}

pin --extra dev "$@" --output-file requirements/dev.txt pyproject.toml
pin --extra node --constraint requirements/dev.txt --output-file requirements/node.txt pyproject.toml
pin --constraint requirements/dev.txt --output-file requirements/base.txt pyproject.toml
pin --extra fuzz --constraint requirements/dev.txt --output-file requirements/fuzz.txt pyproject.toml
pin --extra mutation --constraint requirements/dev.txt --output-file requirements/mutation.txt \
  pyproject.toml
pin --constraint requirements/dev.txt --output-file requirements/build.txt requirements/build.in
