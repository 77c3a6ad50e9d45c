# Sourced by quickstart.sh and run_tests.sh: makes .venv with this project in it where it is missing or out of date, and
# activates it. Takes the extras to install, for example `source ./environment.sh dev`.
# PYTHON chooses the interpreter that .venv is made from (default python3).

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

# Installed again only when what is requested has changed since the last time.
requested="$(cat pyproject.toml requirements.txt) extras=$extras"
stamp=".venv/installed-${extras:-base}"
if [ "$(cat "$stamp" 2>/dev/null)" != "$requested" ]; then
    echo "installing into .venv (torch with CUDA is over 5 GB; this takes a few minutes) ..."
    python -m pip install --quiet -r requirements.txt
    if [ -n "$extras" ]; then
        python -m pip install --quiet -e ".[$extras]"
    fi
    echo "$requested" > "$stamp"
fi
