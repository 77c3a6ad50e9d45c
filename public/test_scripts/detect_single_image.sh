#!/usr/bin/env bash
# Draws what a detector finds: ./detect_single_image.sh --weights best.pth --images street.jpg --output detected; see --help.
exec "${PYTHON:-python}" -m public.test_scripts.detect_single_image "$@"
