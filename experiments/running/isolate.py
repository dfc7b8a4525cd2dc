"""A worker process seen from its parent: give it points, hold it to its limits, outlive it."""

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from experiments.running import worker

POLL_SECONDS = 0.05
GRACE_SECONDS = 20.0

log = logging.getLogger(__name__)


class Worker:
    """`measure` never raises for what a point does. The process starts with the first point."""

    def __init__(self, variables: Mapping[str, str] | None = None, python: str = sys.executable):
        self._variables, self._python = dict(variables or {}), python
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        # cut short, it may want to save where it is; at the end there is nothing left to do
        self.kill(grace=GRACE_SECONDS if error else 0.0)

    def measure(
        self,
        point: dict,
        out: Path,
        listen: Callable[[str], None] = lambda text: None,
        *,
        mesh: Mapping[str, int] | None = None,
        seconds: float,
        memory: int,
    ) -> dict:
        """{"status", "reason", "metrics"}; past `seconds` or `memory` bytes it is killed.

        `listen(text)` hears how far it is; what it warns of is logged.
        """
        if self._process is None:
            self._start()
        request = json.dumps({"point": point, "out": str(out), "mesh": mesh}) + "\n"
        try:
            self._process.stdin.write(request.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._died()
        begun, deadline = b"", time.monotonic() + seconds
        while True:
            if select.select([self._process.stdout], [], [], POLL_SECONDS)[0]:
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    return self._died()
                *lines, begun = (begun + part).split(b"\n")
                for line in map(json.loads, lines):
                    if "warning" in line:
                        log.warning("%s", line["warning"])
                    elif "progress" in line:
                        listen(line["progress"])
                    else:
                        return line
            elif (held := self._resident_bytes()) > memory:
                self.kill()
                reason = f"the process held {held:,} bytes, the limit is {memory:,}"
                return worker.outcome("oom", reason)
            elif time.monotonic() > deadline:
                self.kill()
                return worker.outcome("timeout", f"not done after {seconds:g} s")

    def kill(self, *, grace: float = 0.0) -> None:
        """End the process and what it started, after asking it to end for `grace` seconds."""
        if self._process is None:
            return
        if grace:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()
        self._process = None

    def _start(self):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        self._process = subprocess.Popen(
            [self._python, "-m", "experiments.running.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **self._variables},
            # Ctrl-C goes to the parent alone, which then ends the worker
            start_new_session=True,
        )

    def _resident_bytes(self):
        try:
            return psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:
            return 0

    def _died(self):
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        self.kill()
        if code == -signal.SIGKILL:
            return worker.outcome("oom", "the system killed the process")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return worker.outcome("error", f"the process ended ({how}): {last}")
