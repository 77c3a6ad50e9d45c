#!/usr/bin/env bash
# What a developer and CI run: the environment if it is missing, then format check, lint, types, tests.
#   ./run_tests.sh              everything
#   ./run_tests.sh --quick      the tests that take no time, and nothing else: for between two edits
#   ./run_tests.sh --lowest     the same tests with the oldest versions that pyproject.toml allows (but of torch)
#   ./run_tests.sh -k resume    everything, but only the tests that pytest's arguments choose
set -euo pipefail
cd "$(dirname "$0")"

source ./environment.sh dev

# Two tests at a time, each on one core; threads that spin while they wait would slow the other one down.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
tests=(python -m pytest -n 2 --dist worksteal)

# .venv/lowest lies over .venv: what it does not have, torch and the tools of the tests, comes from there.
make_lowest() {
    python -m venv --clear .venv/lowest
    local site=lib/python$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')/site-packages
    echo "$PWD/.venv/$site" > ".venv/lowest/$site/below.pth"
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
esac
ruff format --check .
ruff check .
basedpyright --warnings
"${tests[@]}" "$@"
