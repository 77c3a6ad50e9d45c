#!/usr/bin/env bash
# From a fresh clone to two trained networks: makes .venv, installs, generates sample images, trains a classifier and, from
# its weights, a detector, evaluates both and draws what the detector finds.
# Needs Python 3.11+ with pip, and nothing else; two to five minutes after the installation on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")"

source ./environment.sh
start=$(date +%s)
export DATA_ROOT="$PWD/data/sample"

echo "== 1. sample images in data/sample"
python -m public.datasets.sample --root "$DATA_ROOT"

classifier=imagenet_experiments/resnet_sample_train_example
echo "== 2. training a classifier in $classifier (a second call resumes from its checkpoint, or finds it finished)"
(cd "$classifier" && python train.py darknet_tiny)
"$classifier/test.sh" darknet_tiny

detector=detection_experiments/resnet18_fcos_sample_train_example
run="$detector/runs/darknet_tiny_fcos"
echo "== 3. training a detector in $detector, which starts from those weights"
(cd "$detector" && python train.py darknet_tiny_fcos)
"$detector/test.sh" darknet_tiny_fcos --time-batches 1 8

echo "== 4. drawing what it finds"
python -m public.apps.predict --weights "$run/checkpoints/best.pth" --source "$DATA_ROOT/COCO2017/images/val2017" \
    --output "$run/predicted" --overwrite | tail -n 1

cat <<END

== done in $(($(date +%s) - start)) s after the installation. To look at, in a browser:
   file://$PWD/$run/test/report.html            how good the detector is, and where it errs
   file://$PWD/$classifier/runs/darknet_tiny/test/report.html
   $run/predicted/    what it finds in each picture

To try next, after  source .venv/bin/activate :
   python -m public.apps.predict --weights $run/checkpoints/best.pth --source YOUR_PICTURES
   (cd imagenet_experiments/own_images_finetune && python train.py --data.folder FOLDER_WITH_A_FOLDER_FOR_EACH_CLASS)
   (cd detection_experiments/own_data_finetune && python train.py --data.folder FOLDER_IN_COCO_VOC_OR_YOLO_FORMAT)
END
