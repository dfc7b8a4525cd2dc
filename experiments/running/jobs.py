"""Jobs by submitit, each a runner that shares a sweep: of this machine, or an array of Slurm's.

A job that Slurm preempts, or whose time is over, is queued again and goes on from the records. One
of this machine that dies is started again.
"""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import submitit
from submitit.helpers import DelayedSubmission

from experiments.measuring import environment

POLL_SECONDS = 0.5
# one that dies is started again, until so many of each have died with no point done since
REPLACEMENTS = 5
# of Slurm's jobs, where --slurm.timeout_min does not tell
TIMEOUT_MINUTES = 24 * 60
# jobs of this machine have no end
NEVER_MINUTES = 365 * 24 * 60


@dataclasses.dataclass(frozen=True)
class Share:
    """Which worker of how many; errors of records older than `retry` are measured again."""

    number: int
    count: int
    retry: str = ""

    def order(self, points: list) -> list:
        """The points from this worker's own part on, so that workers meet late."""
        start = self.number * len(points) // self.count
        return points[start:] + points[:start]


@dataclasses.dataclass(frozen=True)
class Work:
    """A worker's job: the runner with these arguments, on the accelerators that it may see."""

    argv: tuple[str, ...]
    share: Share
    visible: str | None = None

    def __call__(self) -> None:
        # here, for the runner imports this module
        from experiments import run

        if self.visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.visible
        if code := run.main(list(self.argv), self.share):
            raise RuntimeError(f"the runner ended with code {code}")

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(self)


def local(works: list[Work], folder: Path, watch: Callable[[], int]) -> list[str]:
    """Run the jobs to their end, and return what went wrong.

    `watch()` tells how many points are done. What ends this call ends the jobs.
    """
    executor = _executor("local", folder, timeout_min=NEVER_MINUTES)
    jobs, wrong, deaths, done = {work: executor.submit(work) for work in works}, [], 0, 0
    try:
        while jobs:
            time.sleep(POLL_SECONDS)
            if (now := watch()) > done:
                done, deaths = now, 0
            for work, job in [(work, job) for work, job in jobs.items() if job.done()]:
                del jobs[work]
                error = job.exception()
                if error is None:
                    continue
                died = isinstance(error, submitit.core.utils.UncompletedJobError)
                deaths += died
                if died and deaths <= REPLACEMENTS * len(works):
                    jobs[work] = executor.submit(work)
                else:
                    wrong.append(f"worker {work.share.number}: see {job.paths.stderr}")
    finally:
        for job in jobs.values():
            job.cancel()
        for job in jobs.values():
            job.wait()
    if not wrong:
        shutil.rmtree(folder)
    return wrong


def slurm(works: list[Work], folder: Path, parameters: dict) -> str:
    """Queue the jobs as an array, and return its number. ValueError names a wrong parameter."""
    named = {f"slurm_{name}": value for name, value in parameters.items()}
    executor = _executor("slurm", folder, **{"slurm_timeout_min": TIMEOUT_MINUTES, **named})
    with executor.batch():
        jobs = [executor.submit(work) for work in works]
    return jobs[0].job_id.split("_")[0]


def _executor(cluster, folder, **parameters):
    # workers must find this code wherever they start
    os.environ.update(environment.worker_variables())
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(name="attention-zoo", **parameters)
    except (NameError, AssertionError) as error:
        raise ValueError(f"--slurm: {str(error).splitlines()[0]}") from error
    return executor
