#!/usr/bin/env bash
# Evaluates best.pth of a row (./test.sh resnet50_fcos), or any weights (./test.sh --weights FILE); see --help.
exec "${PYTHON:-python}" -m public.test_scripts.test_on_coco "$(dirname "$0")" "$@"
