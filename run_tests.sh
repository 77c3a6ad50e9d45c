#!/usr/bin/env bash
# What a developer and CI run: the environment if it is missing, then format check, lint, types, tests.
#   ./run_tests.sh              everything
#   ./run_tests.sh --quick      the tests that take no time, and nothing else: for between two edits
#   ./run_tests.sh -k resume    everything, but only the tests that pytest's arguments choose
set -euo pipefail
cd "$(dirname "$0")"

source ./environment.sh dev

# Two tests at a time, each on one core; threads that spin while they wait would slow the other one down.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
tests=(pytest -n 2 --dist worksteal)
if [ "${1:-}" = --quick ]; then
    exec "${tests[@]}" -m "not slow" "${@:2}"
fi
ruff format --check .
ruff check .
basedpyright --warnings
"${tests[@]}" "$@"
