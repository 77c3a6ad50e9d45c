"""The warm Python ends as Python does, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import warm_python

PROGRAM = """\
import os, signal, sys
from beside import NAME
print(NAME, sys.argv[1:], os.environ["OWN"], os.getcwd(), __name__, flush=True)
print("warning", file=sys.stderr)
exec(sys.argv[1])
"""
ENDS = ["", "sys.exit(0)", "sys.exit(3)", "sys.exit('no')", "1/0", "os.kill(os.getpid(), signal.SIGKILL)"]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A script and the module that it imports, in a folder of their own."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "beside.py").write_text("NAME = 'beside'\n")
    (folder / "program.py").write_text(PROGRAM)
    return folder / "program.py"


@pytest.mark.slow
@pytest.mark.parametrize("module", [False, True])
def test_it_does_what_python_does(module: bool, program: Path, tmp_path: Path) -> None:
    """Arguments, folder, environment, both streams and the exit code, of a script and of a module."""
    start, folder = (["-m", "program"], program.parent) if module else (["-u", str(program)], tmp_path)
    for end in ENDS:
        cold, warm = (
            subprocess.run(
                [python, *start, end], cwd=folder, env={"OWN": "x"}, capture_output=True, text=True, check=False
            )
            for python in (sys.executable, warm_python.executable())
        )
        assert (warm.returncode, warm.stdout) == (cold.returncode, cold.stdout)
        assert (warm.stderr.splitlines()[0], warm.stderr.splitlines()[-1]) == (
            cold.stderr.splitlines()[0],
            cold.stderr.splitlines()[-1],
        )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_command_ends_its_child(number: signal.Signals, program: Path) -> None:
    """At once, and the child is gone."""
    command = [warm_python.executable(), str(program), "import time; print(os.getpid(), flush=True); time.sleep(60)"]
    with subprocess.Popen(command, env={"OWN": "x"}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        child = int(process.stdout.readline())
        process.send_signal(number)
        assert process.stdout.read() == ""  # which ends when nobody holds the other end any more
    assert process.returncode == -number
    for _ in range(1000):
        if not os.path.exists(f"/proc/{child}"):
            return
        time.sleep(0.01)
    pytest.fail(f"{child} is still there")
