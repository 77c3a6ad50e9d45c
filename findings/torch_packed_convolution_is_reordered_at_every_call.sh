#!/usr/bin/env bash
# torch 2.14.1, CPU (x86_64), float32, torch.channels_last: the layout into which a convolution's weight is packed by
# torch.ops.mkldnn._reorder_convolution_weight depends on how many threads torch has at that moment. With another number
# the packed weight still gives the same results, but the convolution then wants another layout, and brings the weight
# into it at every call, by oneDNN's slowest way ("simple:any"), in place of once. So weights that are packed first and
# used after torch.set_num_threads(1), as in servers with a process per core, are slower than ones never packed: calls
# of these three shapes, of MobileNetV2 and ResNet-50, took 41, 54 and 16 times as long as when packed with one thread.
# Pack after the number of threads is set, or anew. torch.compile with freezing, which packs by the same operator, showed
# no reorder after such a change.
# Only the count of reorders is asserted, with oneDNN held to AVX2 so that it chooses alike on newer processors.
# Output seen on 2026-11-30, Python 3.11, Linux x86_64, AMD EPYC (Zen 3), reorders in one call:
#   packed with 1, run with 1 thread: 0 for 576 -> 160 channels at 7 x 7, 960 -> 320 at 7 x 7 and 1024 -> 512 at 14 x 14
#   packed with 2, run with 1 thread: 1 for each
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder ONEDNN_MAX_CPU_ISA=AVX2
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy
cat >"$folder/packed.py" <<'PYTHON'
import sys

import torch

threads, inputs, outputs, side = map(int, sys.argv[1:])
torch.manual_seed(0)
x = torch.randn(1, inputs, side, side).contiguous(memory_format=torch.channels_last)
weight, bias, geometry = torch.randn(outputs, inputs, 1, 1), torch.randn(outputs), ([0, 0], [1, 1], [1, 1], 1)
torch.set_num_threads(threads)
packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *geometry, list(x.shape))
torch.set_num_threads(1)
for level in (torch.backends.mkldnn.VERBOSE_OFF, torch.backends.mkldnn.VERBOSE_ON):  # the first call is not counted
    with torch.no_grad(), torch.backends.mkldnn.verbose(level):
        seen = torch.ops.mkldnn._convolution_pointwise(x, packed, bias, *geometry, "none", [], "")
torch.testing.assert_close(seen, torch.nn.functional.conv2d(x, weight, bias), rtol=1e-3, atol=1e-3)
PYTHON
for threads in 1 2; do
    for shape in "576 160 7" "960 320 7" "1024 512 14"; do
        # shellcheck disable=SC2086
        "$folder/venv/bin/python" "$folder/packed.py" "$threads" $shape >"$folder/log"
        reorders=$(grep -c "exec,cpu,reorder" "$folder/log" || true)
        grep -q "exec,cpu,convolution" "$folder/log"
        echo "packed with $threads, run with 1 thread: $shape: $reorders reorders in one call"
        [ "$reorders" = $((threads - 1)) ] || { echo "the behaviour changed" && exit 1; }
    done
done
