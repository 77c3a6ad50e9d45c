#!/usr/bin/env bash
# From a fresh clone to two trained networks: makes .venv, installs, generates sample images, trains a classifier and, from
# its weights, a detector, evaluates both and draws what the detector finds.
# Needs Python 3.11+ with pip, and nothing else; less than seven minutes after the installation on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")"

source ./environment.sh
start=$(date +%s)
export DATA_ROOT="$PWD/data/sample"

echo "== 1. sample images in data/sample"
python -m public.datasets.sample --root "$DATA_ROOT"

classifier=imagenet_experiments/resnet_sample_train_example
echo "== 2. training a classifier in $classifier (a second call resumes from its checkpoint, or finds it finished)"
(cd "$classifier" && python train.py)
"$classifier/test.sh"

detector=detection_experiments/resnet18_fcos_sample_train_example
echo "== 3. training a detector in $detector, which starts from those weights"
(cd "$detector" && python train.py)
"$detector/test.sh" --time-batches 1 8

echo "== 4. drawing what it finds"
public/test_scripts/detect_single_image.sh --weights "$detector/runs/resnet18_fcos/checkpoints/best.pth" \
    --score-threshold 0.5 --images "$DATA_ROOT/COCO2017/images/val2017" --output "$detector/runs/resnet18_fcos/detected"

echo "== done in $(($(date +%s) - start)) s after the installation"
echo "curves:      $classifier/runs/resnet18/curves.png, $detector/runs/resnet18_fcos/curves.png"
echo "checkpoints: $classifier/runs/resnet18/checkpoints/, $detector/runs/resnet18_fcos/checkpoints/"
echo "pictures:    $detector/runs/resnet18_fcos/detected/"
