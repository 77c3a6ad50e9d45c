#!/usr/bin/env bash
# What a developer and CI run: the environment if it is missing, then format check, lint, types, tests.
#   ./run_tests.sh              everything
#   ./run_tests.sh -k resume    everything, but only the tests that pytest's arguments choose
set -euo pipefail
cd "$(dirname "$0")"

source ./environment.sh dev

ruff format --check .
ruff check .
basedpyright --warnings
# Threads that spin while they wait slow each other down where several processes share two cores.
OMP_WAIT_POLICY=PASSIVE pytest "$@"
