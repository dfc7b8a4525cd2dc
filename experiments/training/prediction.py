"""What a training costs by rules of thumb: its steps, and the evaluations between and after them.

Not counted are early stops, and texts that a task's judge has generated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from attention_zoo import model_config
from experiments.tasks import Task
from experiments.training import fields, networks

# on a CPU small models wait for memory: in FLOPs of a matrix product, what a byte costs that a step
# keeps for its gradient, and one of its mechanisms (fitted to results/accuracy-*: four of five of
# those trainings are within a factor of 2); seconds a step beside, and to compile
KEPT_FLOPS, MIXING_FLOPS = 106, 176
STEP_SECONDS, EXTRA_SECONDS = 0.008, 15.0
# of a step: a batch that is evaluated goes forward only
FORWARD = 1 / 3


def predict(stages: Sequence[tuple[Mapping[str, Any], Task]]) -> dict:
    """{"flops", "bytes"} of the whole run, how fast it is for its FLOPs, and seconds beside them.

    `stages`: the point and the task of each training.
    """
    costs, steps = [], 0.0
    for number, (c, task) in enumerate(stages):
        last = number == len(stages) - 1
        share = fields.rows(c) / c["batch"]
        whole = c["steps"] + FORWARD * share * evaluated(c, task, tests=last)
        flops, held, waits = _step(c, networks.config_of(c, task))
        costs.append((whole * flops, whole * max(flops, waits), held))
        steps += whole
    flops, waits, held = zip(*costs, strict=True)
    return {
        "flops": round(sum(flops)),
        "bytes": max(held),
        "share": sum(flops) / sum(waits),
        "seconds": STEP_SECONDS * steps + EXTRA_SECONDS,
    }


def evaluated(c: Mapping[str, Any], task: Task, *, tests: bool) -> int:
    """Batches of all validations, and of the test at the end."""
    found = max(1, c["steps"] // c["eval_every"]) * _batches(task, "val", fields.rows(c))
    if tests:
        splits = ["test"] * (1 + len(c["eval_hparams"])) + [*task.also]
        found += sum(_batches(task, split, fields.rows(c)) for split in splits)
    return found


def _batches(task, split, size):
    return -(-examples(task, split) // size)


def examples(task: Task, split: str) -> int:
    """How many sequences a split has, as far as the task's facts tell; 0 where they do not."""
    facts = task.facts
    for name in (f"{split}_examples", f"{split}_pairs", "eval_examples"):
        if name in facts:
            return facts[name]
    if f"{split}_windows" in facts:
        # each channel of a window is one, where they do not go together
        return facts[f"{split}_windows"] * facts["channels"] // task.model["features"]
    return -(-facts.get("eval_tokens", 0) // task.n)


def _step(c, config):
    """Of a step that trains: its FLOPs, the bytes it holds, and how many FLOPs of a matrix product
    it waits for memory."""
    tokens = c["batch"] * config.positions_of(c["n"])
    if not isinstance(config, model_config.TransformerConfig):
        network = nnx.eval_shape(lambda: networks.make(config, rngs=nnx.Rngs(0)))
        weights = sum(x.size for x in jax.tree.leaves(nnx.state(network)))
        return 6 * weights * tokens, 16 * weights, 0
    calls = networks.calls(c, config)
    costs = [m.cost(dims, causal=call["causal"]) for m, dims, call in calls]
    layer = config.width * (4 * config.width + 2 * config.ff)
    outputs = config.target_vocab or config.vocab or config.classes or 1
    weights = len(calls) * layer + config.width * outputs
    flops = sum(cost.train_flops for cost in costs) + 6 * weights * tokens
    kept = 4 * tokens * len(calls) * (10 * config.width + 3 * config.ff)
    held = 16 * weights + (kept + sum(cost.bytes for cost in costs)) // c["microbatches"]
    mixing = sum(cost.train_bytes for cost in costs)
    return flops, held, KEPT_FLOPS * kept + MIXING_FLOPS * mixing
