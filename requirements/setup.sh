#!/bin/sh
# Builds .venv with everything a developer or the demo needs. Run by `make setup`.
#
# System packages come from apt, and only those that are missing; Python packages are pinned and
# hash-checked. PYTHON names the interpreter (3.11 or newer). Running it again costs a moment
# when nothing has changed: a stamp in .venv records what it was built from.
set -eu

cd "$(dirname "$0")/.."
venv=.venv
say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    new_enough "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11 or newer"
    echo "$PYTHON"
    return
  fi
  # What .venv was made with stays, until PYTHON says otherwise.
  former=$("$venv/bin/python" -c 'import sys; print(sys._base_executable)' 2>/dev/null) || former=
  for candidate in ${former:+"$former"} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if new_enough "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  die "no Python 3.11 or newer found; install one, or name it with PYTHON=/path/to/python3"
}

# Prints the Debian packages that are missing, judged by what they provide: a machine that
# has it from elsewhere needs nothing from apt.
missing_packages() {
  command -v gcc >/dev/null || echo gcc
  [ -e /usr/include/stdio.h ] || echo libc6-dev
  command -v pkg-config >/dev/null || echo pkg-config
  pkg-config --exists tss2-esys tss2-fapi tss2-mu tss2-rc tss2-tctildr 2>/dev/null || echo libtss2-dev
  command -v swtpm >/dev/null || echo swtpm
  { command -v swtpm_setup && command -v swtpm_cert; } >/dev/null || echo swtpm-tools
  # The tests read simulated TPMs with it, as a second opinion.
  command -v tpm2_getcap >/dev/null || echo tpm2-tools
  "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
    echo python3-dev
}

install_system_packages() {
  missing=$(missing_packages | tr '\n' ' ')
  missing=${missing% }
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null ||
    die "missing: what Debian packages as $missing; install it with this system's packager"
  if [ "$(id -u)" -eq 0 ]; then
    as_root=
  elif command -v sudo >/dev/null; then
    as_root=sudo
  else
    die "missing: $missing; as root, run: apt-get install --no-install-recommends $missing"
  fi
  say "installing with apt: $missing"
  log=$(mktemp)
  $as_root apt-get update -qq >"$log" 2>&1 ||
    say "apt-get update failed; trying with the package lists there are"
  # shellcheck disable=SC2086  # package names, split on purpose
  $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq --no-install-recommends $missing >>"$log" 2>&1 || {
    cat "$log" >&2
    rm -f "$log"
    die "apt-get could not install them; its words are above"
  }
  rm -f "$log"
  still=$(missing_packages | tr '\n' ' ')
  [ -z "$still" ] || die "apt is done, and still missing for $python: $still"
}

identity() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null; }

# What the environment is built from: another content, interpreter or place is another stamp.
stamp() {
  pwd
  identity "$python"
  cat requirements/*.txt requirements/setup.sh pyproject.toml src/bootlease/__init__.py
}

python=$(find_python)
install_system_packages

mkdir -p "$venv"
if command -v flock >/dev/null; then
  exec 9>"$venv/.lock"
  flock 9
fi
wanted=$(stamp | cksum)
if [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$wanted" ] &&
  "$venv/bin/python" -c 'import bootlease' 2>/dev/null; then
  exit 0
fi

rm -f "$venv/.stamp"
# A virtual environment holds absolute paths: one that was moved, or whose interpreter is gone or
# is another one, is made anew.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
  [ "$(identity "$venv/bin/python")" != "$(identity "$python")" ] ||
  ! grep -qF "$(pwd)/$venv" "$venv/bin/activate"; then
  say "creating $venv with $("$python" --version)"
  find "$venv" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
  "$python" -m venv "$venv"
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
pip() { "$venv/bin/python" -m pip --quiet "$@"; }
say "installing the pinned Python packages (the first time, tpm2-pytss is compiled: a minute)"
# The build tools come first, pinned like the rest, so that nothing is built in an environment
# that pip fills with whatever is newest.
pip install --require-hashes --only-binary :all: -r requirements/build.txt
pip install --require-hashes --only-binary :all: --no-binary tpm2-pytss --no-build-isolation \
  -r requirements/dev.txt
pip install --no-deps --no-build-isolation --editable .
echo "$wanted" >"$venv/.stamp"
say "done: $venv/bin/bootlease"
