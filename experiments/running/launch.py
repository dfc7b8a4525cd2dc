"""`--launcher`: several runners share a sweep, on this machine or as an array of jobs of a cluster.

Each runs the same command on the same folder of records. It takes the points that no other has
claimed and stays until none is left, so that the points of one that dies are taken over.

The folder must be in a file system that all nodes share and whose POSIX locks hold across nodes:
NFSv4, Lustre mounted with `flock`, GPFS or CephFS; not Lustre with `localflock`, whose locks hold
within a node.
"""

import datetime
import os
import signal
import sys
from pathlib import Path

from tqdm import tqdm

from experiments import command, records, sweep
from experiments.measuring import environment
from experiments.running import jobs, stopping, summary
from experiments.training import mesh


class Works:
    """The workers of a command line, with its points."""

    def __init__(self, options, assignments, experiment: str, points: list[dict], mesh: dict):
        self.options, self.assignments = options, assignments
        self.experiment, self.points, self.mesh = experiment, points, mesh

    def start(self, slurm: dict) -> int:
        """The exit code: of the whole sweep here, of its being queued on a cluster."""
        if self.options.launcher == "local":
            return self._local()
        out = self.options.out.absolute()
        works = self._works(out, [None] * self.options.workers)
        job = jobs.slurm(works, out / "jobs", slurm)
        print(f"queued {len(works)} workers on {len(self.points)} points as array of jobs {job}")
        print(f"records: {out}, logs: {out / 'jobs'}; the same command goes on where they ended")
        return 0

    def _local(self):
        env = environment.probe()
        visible = visible_devices(env, self.options.workers)
        fewest = min(len(ids.split(",")) if ids else env.get("devices", 1) for ids in visible)
        mesh.check_devices(self.points, self.mesh, fewest)
        if self.options.out is None and visible[0]:
            env = environment.probe(CUDA_VISIBLE_DEVICES=visible[0])
        out = self.options.out or Path("results") / self.experiment / env["device"]
        store, wrong, code = records.Store(out.absolute()), [], 0
        todo = sweep.pending(self.points, store, retry=self.options.retry)
        every = 0.5 if sys.stderr.isatty() else 5.0
        with (
            stopping.heeded(signal.SIGTERM, signal.SIGINT),
            tqdm(total=len(todo), unit="point", mininterval=every, disable=not todo) as bar,
        ):

            def watch():
                bar.update(len(todo) - len(sweep.pending(todo, store)) - bar.n)
                return bar.n

            try:
                works = self._works(store.folder, visible) if todo else []
                wrong = jobs.local(works, store.folder / "jobs", watch)
            except stopping.Stopped as stop:
                summary.stopped(stop)
                code = stop.code
        for line in wrong:
            command.mistake("run", line)
        store.merge()
        summary.show(self.points, store)
        store.close()
        return code or (2 if wrong else 0)

    def _works(self, out, visible):
        """A job for each of `visible`."""
        options = self.options
        argv = ["--config", options.config, "--out", str(out)]
        argv += [f"--config.{key}={text}" for key, text in self.assignments]
        argv += ["--distributed"] if options.distributed else []
        # dates of records are whole seconds
        now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)
        retry = now.isoformat(timespec="seconds") if options.retry else ""
        return [
            jobs.Work(tuple(argv), jobs.Share(number, len(visible), retry), devices)
            for number, devices in enumerate(visible)
        ]


def visible_devices(env: dict, workers: int) -> list[str | None]:
    """For each worker the GPUs of this machine that are its own, as CUDA_VISIBLE_DEVICES has them.

    More workers than GPUs share them in turn; without GPUs there is nothing to set.
    """
    if env.get("platform") != "gpu":
        return [None] * workers
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = named.split(",") if named else [str(i) for i in range(env["devices"])]
    shares = [ids[i::workers] or [ids[i % len(ids)]] for i in range(workers)]
    return [",".join(share) for share in shares]
