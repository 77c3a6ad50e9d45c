#!/usr/bin/env bash
# What a developer and CI run: the environment if it is missing, then format check, lint, types, tests.
#   ./run_tests.sh              everything
#   ./run_tests.sh --quick      the tests that take no time, and nothing else: for between two edits
#   ./run_tests.sh --lowest     the quick tests with the oldest versions that pyproject.toml allows (but of torch)
#   ./run_tests.sh --torch 2.11 all tests with that version of torch and the torchvision that belongs to it
#   ./run_tests.sh -k resume    everything, but only the tests that pytest's arguments choose
set -euo pipefail
cd "$(dirname "$0")"

source ./environment.sh dev

# Two tests at a time, each on one core; threads that spin while they wait would slow the other one down.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
tests=(python -m pytest -n 2 --dist worksteal)

# .venv/NAME lies over .venv: what it does not have, the tools of the tests for instance, comes from there.
# An editable installation there is not seen from above, so the repository is named as well.
make_above() {
    python -m venv --clear ".venv/$1"
    local site=lib/python$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')/site-packages
    printf '%s\n' "$PWD" "$PWD/.venv/$site" > ".venv/$1/$site/below.pth"
}

make_lowest() {
    make_above lowest
    uv pip freeze | grep -E '^torch(vision)?==' > .venv/lowest/torch.txt
    uv pip compile --quiet pyproject.toml --extra timm --extra serve --resolution lowest-direct \
        --constraints .venv/lowest/torch.txt --no-header --no-annotate |
        grep -vE '^(torch|nvidia|cuda|triton)' > .venv/lowest/requirements.txt
    uv pip install --quiet --python .venv/lowest --no-deps -r .venv/lowest/requirements.txt
}

case "${1:-}" in
--quick) exec "${tests[@]}" -m "not slow" "${@:2}" ;;
--lowest)
    make_lowest
    source .venv/lowest/bin/activate
    exec "${tests[@]}" -m "not slow" "${@:2}"
    ;;
--torch)
    make_above torch
    uv pip install --quiet --python .venv/torch "torch==${2:?a version, such as 2.11}.*" torchvision
    source .venv/torch/bin/activate
    exec "${tests[@]}" "${@:3}"
    ;;
esac
ruff format --check .
ruff check .
basedpyright --warnings
"${tests[@]}" "$@"
