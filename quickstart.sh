#!/usr/bin/env bash
# From a fresh clone to a trained network: makes .venv, installs, generates sample images, trains, evaluates.
# Needs Python 3.11+ with pip, and nothing else; about three minutes after the installation on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")"

source ./environment.sh
start=$(date +%s)
export DATA_ROOT="$PWD/data/sample"

echo "== 1. sample images in data/sample"
python -m public.datasets.sample --root "$DATA_ROOT"

experiment=imagenet_experiments/resnet_sample_train_example
echo "== 2. training in $experiment (a second call goes on from its checkpoint, or finds it finished)"
(cd "$experiment" && python train.py)

echo "== 3. evaluating its best checkpoint"
"$experiment/test.sh"

echo "== done in $(($(date +%s) - start)) s after the installation"
echo "curves:      $experiment/runs/resnet18/curves.png"
echo "checkpoints: $experiment/runs/resnet18/checkpoints/"
echo "pictures:    data/sample/ILSVRC2012/val/<class>/"
