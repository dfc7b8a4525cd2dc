"""The runner's command line."""

import argparse
import ast
import contextlib
from pathlib import Path

from experiments import command

LAUNCHERS = ("local", "slurm")
BY_HAND = (
    ("--coordinator", str, "HOST:PORT of the first process"),
    ("--processes", int, "how many there are"),
    ("--process", int, "which of them this is, from 0"),
)


def parse(argv: list[str], description: str) -> tuple[argparse.Namespace, list, dict]:
    """(options, [(dotted key, text)], Slurm's parameters) of a command line."""
    parser = command.Parser(
        prog="python -m experiments.run",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="--config.KEY=VALUE replaces a value, --config.lengths=256,512 a tuple; "
        "--slurm.KEY=VALUE is a parameter of sbatch as submitit names it: partition, account, qos, "
        "timeout_min, gpus_per_node, cpus_per_task, nodes, tasks_per_node, array_parallelism...",
    )
    parser.add_argument("--config", help="a config file, or its bare name, and :CHOICE of a size")
    parser.add_argument("--again", metavar="FOLDER", help="the points of these records, exactly")
    parser.add_argument(
        "--ids", type=_ids, default=(), help="of --again only these, separated by commas"
    )
    parser.add_argument("--out", type=Path, help="folder of the records: results/EXPERIMENT/DEVICE")
    parser.add_argument(
        "--list", action="store_true", help="print the configs, or a config's points"
    )
    parser.add_argument("--dry_run", action="store_true", help="print points and predicted costs")
    parser.add_argument(
        "--retry",
        action="store_true",
        help="repeat what ended in an error or a timeout, and trainings whose rate that changes",
    )
    parser.add_argument("--launcher", choices=LAUNCHERS, help="start workers here, or by Slurm")
    parser.add_argument("--workers", type=int, default=1, help="how many the launcher starts")
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="join the processes that Slurm, Kubernetes or Open MPI started, and train as one",
    )
    for flag, kind, words in BY_HAND:
        parser.add_argument(flag, type=kind, help=f"with --distributed by hand: {words}")
    options, rest = parser.parse_known_args(argv)
    _check(options)
    given = {"config": [], "slurm": []}
    while rest:
        key, equals, text = rest.pop(0).partition("=")
        kind, dot, name = key.removeprefix("--").partition(".")
        if not (key.startswith("--") and dot and kind in given and (equals or rest)):
            flags = (action.option_strings[-1] for action in parser._actions[1:])
            known = ", ".join([*flags, "--config.KEY=VALUE", "--slurm.KEY=VALUE"])
            raise ValueError(f"unknown argument {key!r}; known: {known}")
        given[kind].append((name, text if equals else rest.pop(0)))
    if given["slurm"] and options.launcher != "slurm":
        raise ValueError(f"--slurm.{given['slurm'][0][0]} goes with --launcher slurm")
    return options, given["config"], {name: _literal(text) for name, text in given["slurm"]}


def _ids(text):
    return tuple(filter(None, text.split(",")))


def _check(options):
    if options.again and options.launcher:
        raise ValueError("--again goes without --launcher: it is for a few points")
    if options.workers < 1 or (options.workers > 1 and not options.launcher):
        raise ValueError(f"--workers must be from 1 up, with a --launcher, got {options.workers}")
    if options.launcher == "slurm" and options.out is None:
        raise ValueError("--launcher slurm needs --out FOLDER, in a file system that nodes share")
    by_hand = {flag: getattr(options, flag.removeprefix("--")) for flag, *_ in BY_HAND}
    missing = [flag for flag, value in by_hand.items() if value is None]
    if len(missing) < len(by_hand):
        if not options.distributed or missing:
            wanted = " ".join(["--distributed", *by_hand])
            raise ValueError(f"processes joined by hand take all of {wanted}")
        if not 0 <= options.process < options.processes:
            raise ValueError(
                f"--process must be from 0 to {options.processes - 1}, got {options.process}"
            )
    if options.distributed and options.launcher == "local":
        raise ValueError("--distributed goes with --launcher slurm, which starts its processes")


def _literal(text):
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)
    return text
