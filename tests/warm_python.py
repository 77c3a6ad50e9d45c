"""A `python` that has imported torch already: what tests start as a program costs a fork, not seconds of imports.

`executable()` gives the path of a command that is used as `sys.executable` is. One server for each process of pytest
imports the libraries (nothing of this repository, so that a copy of the tree can be run too) while it has one thread,
and forks for every start. The child gets the caller's arguments, folder, environment, stdin, stdout and stderr, runs
the script or module as `__main__`, and ends as Python does: it has its own memory, process group and exit code. The
command that the caller sees waits for it, passes signals on to its group, and ends with its exit code or signal; a
child whose command is killed is killed. `sys.executable` of the child is this command again, so that torchrun's workers
are forked as well.

What differs from a start of Python: the process number that the caller knows is the command's, so what the program
starts is no child of it; two programs have one hash seed; OMP_NUM_THREADS is 1, whatever the environment says; `-u`
(torchrun gives it) flushes whole lines; any other option than that and `-m`, such as `-c`, starts Python itself. Where
Linux's pidfd is missing, `executable()` is `sys.executable`.
"""

import atexit
import contextlib
import functools
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import cast

LIBRARIES = (
    "cv2",
    "hotcoco",
    "lmdb",
    "matplotlib.backends.backend_agg",
    "msgspec",
    "safetensors.torch",
    "torch.distributed.run",
)
LIBRARIES += ("torch.utils.flop_counter", "torch.utils.tensorboard", "torchvision.transforms.v2", "tyro", "yaml")
"""What runs import, as far as it takes time and starts no thread."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM)
LENGTH = 8
"""Bytes of a message that say how long the rest is."""


@functools.cache
def executable() -> str:
    """The command; the first call starts the server, which ends with this process."""
    if not hasattr(os, "pidfd_open"):
        return sys.executable
    folder = tempfile.TemporaryDirectory(prefix="warm_python_")
    command, address = Path(folder.name, "python"), Path(folder.name, "socket")
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {__file__} {address} "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    server = subprocess.Popen(
        [sys.executable, __file__, "serve", str(address), str(command)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    atexit.register(folder.cleanup)
    atexit.register(server.wait)  # run in reverse: first its stdin is closed, which ends it
    atexit.register(server.stdin.close)
    assert server.stdout.readline() == b"ready\n", "the server of tests/warm_python.py did not start"
    return str(command)


# ---- the command -----------------------------------------------------------------------------------------------------


def ask(address: str, arguments: list[str]) -> None:
    """Has the server run a program; ends as that does."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-m", "-u")):
        os.execv(sys.executable, [sys.executable, *arguments])
    request = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    socket.send_fds(server, [len(request).to_bytes(LENGTH, "big")], [0, 1, 2])
    server.sendall(request)
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: server.sendall(bytes([number])))
    code = int(server.recv(16) or 70)  # 70: the server is gone
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no other meaning
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


# ---- the server ------------------------------------------------------------------------------------------------------


def serve(address: str) -> list[str]:
    """Forks for every request until stdin is closed; returns in each child, with the arguments of its program."""
    for name in LIBRARIES:
        __import__(name)
    gc.freeze()
    assert len(os.listdir("/proc/self/task")) == 1, "a library has started a thread, which a fork would not have"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork() == 0:
            listener.close()
            return start(connection)
        connection.close()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()  # so that the time that they took counts as this process's
    os._exit(0)


def start(connection: socket.socket) -> list[str]:
    """Forks the child of one request, in which alone it returns, and looks after it until it or its command is dead."""
    header, streams, _, _ = socket.recv_fds(connection, LENGTH, 3)
    request = json.loads(connection.recv(int.from_bytes(header, "big"), socket.MSG_WAITALL))
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        return request["arguments"]
    with contextlib.suppress(OSError):  # it may have done it already, or have ended
        os.setpgid(child, child)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(child)
    while ended not in (ready := select.select([ended, connection], [], [])[0]):
        number = connection.recv(1) if ready else b""
        os.killpg(child, number[0] if number else signal.SIGKILL)
        if not number:
            break
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(str(code).encode())
    os._exit(0)


def run(arguments: list[str], command: str, own_path: list[str]) -> None:
    """Runs `script.py ...` or `-m module ...` and ends as Python does, but does not take every module apart for it."""
    sys.executable = command
    if arguments[0] == "-u":
        arguments = arguments[1:]
        cast(io.TextIOWrapper, sys.stdout).reconfigure(line_buffering=True)
    module = arguments[0] == "-m"
    sys.argv = arguments[module:]
    first = os.getcwd() if module else str(Path(arguments[0]).resolve().parent)
    sys.path = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *own_path]
    code: object = 0
    try:
        if module:
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        run(serve(sys.argv[2]), sys.argv[3], sys.path[1:])
    else:
        ask(sys.argv[1], sys.argv[2:])
