#!/bin/bash
# Trains a row of an experiment on several machines without a batch system. Type the same on each of them, in the
# experiment's folder; runs/ and the data must lie on a disk that all of them see.
#
#     MACHINES=2 GPUS=8 HOST=first-machine ../../docs/cluster/torchrun.sh resnet50 --epochs 90
#
# When a process or a machine dies, all processes begin again from the last checkpoint, up to RESTARTS times; the machine
# that was lost may come back by the same command.
set -eu
exec torchrun --nnodes="$MACHINES" --nproc-per-node="$GPUS" --max-restarts="${RESTARTS:-3}" \
    --rdzv-backend=c10d --rdzv-endpoint="$HOST:${PORT:-29500}" --rdzv-id="${RUN:-$1}" train.py "$@"
