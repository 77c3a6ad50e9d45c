# Sourced by quickstart.sh and run_tests.sh: makes .venv with this project in it where it is missing or out of date, and
# activates it. Takes `dev` for everything that tests need: `source ./environment.sh dev`.
# PYTHON chooses the interpreter that .venv is made from (default python3). requirements.lock and requirements-dev.lock
# state every version with its hashes; CONTRIBUTING.md says how they are written.

extras="${1:-}"
if [ ! -x .venv/bin/python ]; then
    base="${PYTHON:-python3}"
    if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: Python 3.11 or newer is needed; $base is $("$base" --version 2>&1). Set PYTHON=/path/to/python." >&2
        exit 1
    fi
    "$base" -m venv .venv
fi
source .venv/bin/activate

# uv downloads several packages at once, with a bar for each. It reads no settings of pip's: where it cannot reach an
# index, pip may. Unlike pip it leaves compiling to the first import, unless told; where Python is told to keep nothing
# that it compiles (PYTHONDONTWRITEBYTECODE, as in many containers), each start would compile torch anew: 13 s for 5.
export UV_COMPILE_BYTECODE=1
locked="requirements${extras:+-$extras}.lock"
install_locked() {
    python -m pip install --quiet --disable-pip-version-check uv &&
        uv pip install --require-hashes -r "$locked" && uv pip install --quiet --no-deps -e . && return
    echo "uv could not install them: with pip, then"
    python -m pip install --require-hashes -r "$locked" && python -m pip install --quiet --no-deps -e .
}

# Installed again only when what is requested has changed since the last time.
requested="$(cat pyproject.toml "$locked") extras=$extras"
stamp=".venv/installed-${extras:-base}"
if [ "$(cat "$stamp" 2>/dev/null)" != "$requested" ]; then
    echo "== installing into .venv: torch with CUDA is 3 GB to load and over 5 GB on the disk; this takes a few minutes"
    install_locked
    echo "$requested" > "$stamp"
fi
