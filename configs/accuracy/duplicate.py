"""Duplicate: say a word again, by rounds of hashing at training and at evaluation, after Reformer.

    python -m experiments.run --config configs/accuracy/duplicate.py:small

Every model is trained with full attention of shared queries and keys, or with 1, 2, 4 or 8 rounds,
and tested with all five: the columns test_accuracy@full, @hashes=1 and so on. arXiv:2001.04451.
Positions are learned. In one layer a query must find the key N/2 - 1 before it, and where queries
and keys are the same a score of sinusoids is greatest at no distance, whatever is learned of their
frequencies. Sequences are of 64 tokens for the first 600 steps, then of N: in a trial of 1,000
steps that were of N = 512 from the first, full attention learned nothing.
small: 1 layer of width 64, N = 128 to 512 with 3 seeds, 1,024 with one seed; 2.5 core-hours. Expect
1.00 of full attention up to N = 512, and less of fewer rounds, the more so the longer N is.
medium: width 128, 3 seeds, half an hour of a GPU by estimate, not yet run.
full: 3 seeds of the paper's layer, width and feed-forward 256, 4 heads, N = 1,024 from the first,
150,000 steps.
"""

from configs import accuracy, base

ROUNDS = (1, 2, 4, 8)
# heads of 64 at every width, as in the paper
MODEL = {"depth": 1, "positions": "learned"}
EXACT = {"buckets": 1, "block": "n/1"}
# on average half a chunk is of one bucket, as in the paper
HASHED = {"buckets": "n/32", "block": 64}
SMALL = {
    "model": {**MODEL, "width": 64, "heads": 1, "ff": 256},
    "task_args": {"eval_examples": 100, "grow": (600, 600, 600, 600)},
    "lengths": (128, 256, 512, 1024),
    "one_seed_from": 1024,
    "lr_length": 256,
    "lr_steps": 1000,
    "lrs": (1e-3, 3e-3, 1e-2),
    "tokens": 2048,
    "steps": 1500,
}
MEDIUM = {
    **SMALL,
    "model": {**MODEL, "width": 128, "heads": 2, "ff": 512},
    "one_seed_from": None,
    "tokens": 16384,
    "steps": 3000,
}
FULL = {
    "model": {**MODEL, "width": 256, "heads": 4, "ff": 256},
    "lengths": (1024,),
    "lr_length": 1024,
    "lr_steps": 15_000,
    "lrs": (3e-4, 1e-3, 3e-3),
    "batch": 32,
    "steps": 150_000,
    "evals": 100,
    "time_limit": 86400.0,
}


def get_config(size="small"):
    variants = {"full": {"label": "full, shared", "mechanism": "lsh", **EXACT}}
    for hashes in ROUNDS:
        key = f"lsh_{hashes}"
        variants[key] = {"label": f"lsh, {hashes}", "mechanism": "lsh", **HASHED, "hashes": hashes}
    fields = {"variants": variants, "target": 0.9999}
    return accuracy.settings(
        "duplicate", size, {"small": SMALL, "medium": MEDIUM, "full": FULL}, **fields
    )


def get_sweep(config):
    return [_tested(point, config) for point in accuracy.sweep(config)]


def _tested(point, config):
    """The point with all variants at evaluation; those that rates are chosen from need none."""
    keys = {"full": "full"} | {f"hashes={hashes}": f"lsh_{hashes}" for hashes in ROUNDS}
    ways = {name: base.variant(config, key, point["n"])["hparams"] for name, key in keys.items()}
    rate = point["lr"]
    at = {**rate["at"], "eval_hparams": {}}
    return {**point, "eval_hparams": ways, "lr": {**rate, "at": at}}
