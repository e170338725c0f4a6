"""A fork server: heavy imports once, then a real process per device, each in its host's network.

Importing torch, diffusers and peft costs about 10 CPU-seconds and 400 MB; a fork costs milliseconds and
shares those pages. The caller names what to preload and what to call, so nothing here knows what runs.

    with Launcher(log=path) as launcher:
        launcher.preload("json:loads", "{}")
        pid = launcher.fork("dev0", "client.__main__:main", [["--id", "dev0"]], namespace_of=host_pid)

The server process stays single-threaded (a fork copies only the thread that forks): it answers one
request at a time on a socket pair, and watches its children by their pidfds.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from emulation.sandbox import die_with_parent

_CLONE_NEWNET = 0x40000000


class LauncherError(RuntimeError):
    """The fork server could not do what was asked; the message is its own."""

    wrong_input = False


class Launcher:
    """The parent's side. Every request is answered before the next is sent."""

    def __init__(self, log: Path) -> None:
        ours, theirs = socket.socketpair()
        # One thread a process: forked numpy and torch must not hold the locks of threads that are gone,
        # and two cores are shared out by slots, not by oversubscription.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "emulation.launcher", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        theirs.close()
        self._stream = ours.makefile("rw")
        ours.close()

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the fork server; its children die with it, and a request that waits for it fails."""
        self._process.kill()
        self._process.wait()
        self._stream.close()

    def preload(self, target: str, *arguments: object) -> None:
        """Call `module:function` in the fork server, so that what it loads is shared by all forks."""
        self._ask(request="preload", target=target, arguments=arguments)

    def fork(
        self, name: str, target: str, arguments: list[Any], *, namespace_of: int | None, log: Path
    ) -> int:
        """Fork a process that joins the network namespace of PID `namespace_of`, then calls `target`.

        What the function returns is the exit status; its output goes to `log`. Returns the PID.
        """
        answer = self._ask(
            request="fork",
            name=name,
            target=target,
            arguments=arguments,
            namespace_of=namespace_of,
            log=str(log),
        )
        return int(answer["pid"])

    def exits(self) -> dict[str, int]:
        """Exit statuses so far by name; negative is the signal that killed it."""
        return {name: int(status) for name, status in self._ask(request="exits")["exits"].items()}

    def _ask(self, **request: object) -> dict[str, Any]:
        try:
            self._stream.write(json.dumps(request) + "\n")
            self._stream.flush()
            line = self._stream.readline()
        except (BrokenPipeError, ConnectionResetError):
            line = ""
        if not line:
            raise LauncherError(f"the fork server died (exit status {self._process.wait()}); see its log")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LauncherError(answer["error"])
        return answer


def _serve(connection: socket.socket) -> None:
    """The fork server's loop, until its parent hangs up."""
    stream = connection.makefile("rw")
    names: dict[int, str] = {}
    exits: dict[str, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    pid = key.data
                    _, status = os.waitpid(pid, 0)
                    exits[names.pop(pid)] = os.waitstatus_to_exitcode(status)
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    continue
                line = stream.readline()
                if not line:
                    return
                answer = _answer(json.loads(line), exits, names, selector, connection)
                stream.write(json.dumps(answer) + "\n")
                stream.flush()


def _answer(
    request: dict[str, Any],
    exits: dict[str, int],
    names: dict[int, str],
    selector: selectors.BaseSelector,
    connection: socket.socket,
) -> dict[str, object]:
    if request["request"] == "exits":
        return {"exits": exits}
    try:
        function = _resolve(request["target"])
        if request["request"] == "preload":
            function(*request["arguments"])
            gc.freeze()  # The collector would write to, and so unshare, every preloaded page.
            return {}
        parent = os.getpid()
        pid = os.fork()
    except Exception as error:
        return {"error": f"{request['target']}: {error}"}
    if pid == 0:
        selector.close()
        connection.close()
        _become(request, function, parent)
    names[pid] = request["name"]
    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
    return {"pid": pid}


def _become(request: dict[str, Any], function: Any, parent: int) -> None:
    """In the child: own session, own log, the host's network, then the function. Never returns."""
    status = 1
    try:
        os.setsid()
        die_with_parent(parent)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        output = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if request["namespace_of"] is not None:
            _join_network_of(request["namespace_of"])
        status = int(function(*request["arguments"]) or 0)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _join_network_of(pid: int) -> None:
    """setns(2) into the network namespace of `pid`; before any socket is opened."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns into the network of process {pid}")
    os.close(namespace)


def _resolve(target: str) -> Any:
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
