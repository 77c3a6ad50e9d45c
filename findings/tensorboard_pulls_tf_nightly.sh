#!/usr/bin/env bash
# tensorboard 2.16.0 requires tf-keras-nightly, so that whoever resolves to the oldest version that ">=2.16" allows gets a
# nightly build of the whole of TensorFlow (tf-nightly, keras-nightly, h5py, ...) with a viewer of logs; 2.16.1 requires
# tf-keras, 2.16.2 neither. Met where the lowest versions of this project were resolved; its bound is 2.18.
# Output seen on 2026-11-28, Python 3.11, Linux x86_64:
#   2.16.0: tf-keras-nightly
#   2.16.1: tf-keras>=2.15.0
#   2.16.2: none
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
for version in 2.16.0 2.16.1 2.16.2; do
    "$folder/venv/bin/python" -m pip install --quiet --no-deps --target "$folder/$version" "tensorboard==$version"
done
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib.metadata import distributions

seen = {"2.16.0": "tf-keras-nightly", "2.16.1": "tf-keras>=2.15.0", "2.16.2": "none"}
for version, expected in seen.items():
    (found,) = [one for one in distributions(path=[f"{sys.argv[1]}/{version}"]) if one.metadata["Name"] == "tensorboard"]
    keras = [line.replace(" ", "") for line in found.requires or [] if "keras" in line] or ["none"]
    print(f"{version}: {', '.join(keras)}")
    assert keras == [expected], f"{version} required {expected} on 2026-11-28"
PYTHON
