#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93 and pillow 13.0.0: a Netpbm file (.pgm, .ppm) says which number is white, any from 1
# to 65535. cv2.imread does not scale by it in binary files: a white of 100 comes out as 100, and where it takes two
# bytes, as the 4095 of a sensor of 12 bits, the picture is read as if white were 65535, so that nothing is brighter
# than 15 of 255. The same picture as text (P2, P3) is scaled. Pillow scales all of them, and grey ones of two bytes up
# to 65535 (its mode is "I"), which convert("RGB") then cuts at 255: nearly all is white. So one and the same grey file
# of 12 bits is black to a data set's reader that uses OpenCV, and white to one that uses Pillow; in color Pillow is
# right.
# Output seen on 2026-12-01, Python 3.11, Linux x86_64; black, about a half and white, which should be 0, 128 (119 of
# 15) and 255; a star where a reader is wrong:
#   P5 grey, white 100: opencv [0, 50, 100] *, pillow [0, 128, 255]
#   P2 grey as text, white 100: opencv [0, 127, 255], pillow [0, 128, 255]
#   P5 grey, white 4095: opencv [0, 8, 15] *, pillow [0, 255, 255] *
#   P6 color, white 15: opencv [0, 7, 15] *, pillow [0, 119, 255]
#   P6 color, white 4095: opencv [0, 8, 15] *, pillow [0, 128, 255]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

WRONG = {"opencv": [], "pillow": []}
for magic, words, white in (
    ("P5", "grey", 100),
    ("P2", "grey as text", 100),
    ("P5", "grey", 4095),
    ("P6", "color", 15),
    ("P6", "color", 4095),
):
    values = [0, (white + 1) // 2, white] if white != 15 else [0, 7, 15]
    pixels = np.repeat(values, 3 if magic == "P6" else 1).astype(">u2" if white > 255 else np.uint8)
    data = (" ".join(map(str, values)) + "\n").encode() if magic == "P2" else pixels.tobytes()
    path = Path(sys.argv[1]) / f"{magic}_{white}.{'ppm' if magic == 'P6' else 'pgm'}"
    path.write_bytes(f"{magic}\n3 1\n{white}\n".encode() + data)
    with Image.open(path) as image:
        seen = {"opencv": cv2.imread(str(path), cv2.IMREAD_COLOR), "pillow": np.asarray(image.convert("RGB"))}
    hand = [255 * value / white for value in values]
    told = []
    for reader, result in seen.items():
        row = result[0, :, 0].tolist()
        wrong = max(abs(a - b) for a, b in zip(row, hand)) > 1
        WRONG[reader] += [(magic, white)] if wrong else []
        told.append(f"{reader} {row}{' *' if wrong else ''}")
    print(f"{magic} {words}, white {white}: {', '.join(told)}")
assert WRONG["opencv"] == [("P5", 100), ("P5", 4095), ("P6", 15), ("P6", 4095)], "the behaviour changed"
assert WRONG["pillow"] == [("P5", 4095)], "the behaviour changed"
PYTHON
