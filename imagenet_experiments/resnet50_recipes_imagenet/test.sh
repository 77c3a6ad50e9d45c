#!/usr/bin/env bash
# Evaluates best.pth of a row (./test.sh torchvision_v2), or any weights (./test.sh --weights FILE); see --help.
exec "${PYTHON:-python}" -m public.test_scripts.test_on_imagenet "$(dirname "$0")" "$@"
