#!/bin/sh
# Let other people's implementations judge a token and its receipt. Their dependencies contradict
# ours, so each gets an environment of its own under build/.
set -eu
cd "$(dirname "$0")/../.."
folder=build/interop
mkdir -p "$folder/made"
.venv/bin/python tests/interop/make_token.py "$folder/made"
while read -r name requirement; do
  if [ ! -x "$folder/$name/bin/python" ]; then
    echo "interop: installing $requirement into $folder/$name"
    .venv/bin/python -m venv "$folder/$name"
    "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$requirement"
  fi
  "$folder/$name/bin/python" "tests/interop/check_$name.py" "$folder/made"
done <<'EOF'
scitt_cose scitt-cose==0.5.0
cwt cwt==3.3.0
EOF
