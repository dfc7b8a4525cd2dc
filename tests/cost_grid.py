"""Calls drawn at random, and how far a mechanism's formulas are from what is counted of them.

    python -m tests.cost_grid 10 [mechanism ...]

prints the worst ratios, formula over count, of so many draws a mechanism: FLOPs against the traced
program, bytes against scratch and output as compiled, forward and backward, causal and not.
"""

# before jax: programs are compiled as in the tests
import tests.conftest  # noqa: F401, I001

import random
import sys

import attention_zoo as zoo
from experiments import measure
from experiments.kinds import kernel
from experiments.measuring import flops

# values of hyperparameters to draw from; several spaces where one excludes another
SPACES = {
    "auto_correlation": [{"factor": [1, 3]}],
    "bigbird": [
        {
            "block": [16, 48, 64],
            "window": [0, 1],
            "global_blocks": [0, 2, (1, 1)],
            "random_blocks": [0, 3],
        }
    ],
    "compressed": [{"stride": [2, 3, 5], "window": [None, 0, 20], "learned": [0, 2]}],
    "convolution": [{"width": [2, 3, 5], "layers": [1, 4]}],
    "efficient": [{"chunk": [32, 128], "normaliser": ["feature", "row"]}],
    "fourier": [{"implementation": [None, "fft"]}],
    "fourier_enhanced": [
        {"modes": [8, 64], "kind": ["self", "cross"], "select": ["random", "low"]},
    ],
    "full": [
        {"implementation": ["plain"]},
        {"implementation": ["chunked"], "block": [64, 128, 256], "key_block": [64, 256, 1024]},
    ],
    "global": [{"tokens": [4, 33], "window": [16, 100, None], "separate": [False, True]}],
    "linear": [{"feature_map": ["elu", "relu", "identity"], "chunk": [32, 128]}],
    "linformer": [{"slots": [16, 100, 256], "sharing": ["head", "none", "kv"]}],
    "local": [{"window": [5, 37, 128, (64, 0), (31, 200)], "block": [None, 64, 100]}],
    "lsh": [{"buckets": [8, (4, 4), (16, 8)], "hashes": [1, 2, 4], "block": [32, 64, 100]}],
    "mixed": [{}, {"parts": [(("local", {"window": 40}), ("linear", {}))]}],
    "mlp_mixer": [{"hidden": [16, 100, 256], "norm": [False, True], "residual": [False, True]}],
    "none": [{}],
    "nystrom": [{"landmarks": [16, 100], "iterations": [4, 6], "conv": [None, 9]}],
    "performer": [{"features": [32, 100, 256], "kernel": ["softmax", "relu"], "chunk": [64, 128]}],
    "probsparse": [{"factor": [1, 5], "ranking": ["exact", "paper"]}],
    "query_reduction": [
        {"kind": ["latents"], "slots": [16, 100, 256]},
        {"kind": ["strided"], "stride": [2, 5, 16]},
    ],
    "recurrent": [
        {"cell": ["rnn", "lstm"], "bidirectional": [False, True], "conv": [None, 3]},
    ],
    "rfa": [{"features": [32, 128, 256], "gate": [False, True], "chunk": [64, 128]}],
    "routing": [
        {"clusters": [8, 20, 64], "window": [16, 50, 128], "membership": ["exact", "paper"]}
    ],
    "sinkhorn": [{"block": [32, 64, 100], "sort": ["learned", "mean"], "n_top": [None, 1, 2]}],
    "spatial_gating": [{"per_head": [False, True], "norm": [False, True]}],
    "strided": [{"stride": [7, 32, 45, 128], "window": [None, 16, 60]}],
    "synthesizer": [
        {"kind": ["dense", "factorised_dense"], "hidden": [None, 20], "chunk": [64, 128]},
        {"kind": ["random", "factorised_random"], "chunk": [64, 128]},
    ],
}
MODES = ("forward", "train")


def draw(name: str, number: int, mode: str) -> dict:
    """The `number`-th point of kind "kernel" of a mechanism, causal every second time if it can."""
    lot = random.Random(f"{name} {number}")
    space = lot.choice(SPACES[name])
    point = {
        "kind": "kernel",
        "mechanism": name,
        "hparams": {hparam: lot.choice(values) for hparam, values in space.items()},
        "n": lot.randint(700, 2100),
        "batch": lot.randint(1, 3),
        "heads": lot.choice((4, 8)),
        "head_dim": lot.choice((16, 24, 32, 64)),
        "value_dim": lot.choice((16, 40, 64)),
        "dtype": "float32",
        "seed": 0,
        "mode": mode,
        "causal": number % 2 == 1,
    }
    return point if not kernel.objections(point) else point | {"causal": False}


def flops_ratio(point: dict, program) -> float:
    found, counted = kernel.predict(point)["flops"], flops.count_jaxpr(program.jaxpr).flops
    return found / counted if counted else 1.0 + found


def bytes_ratio(point: dict, program) -> float:
    memory = measure.memory_of(program.lower())
    held = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return kernel.predict(point)["bytes"] / held


def main(draws: int, names: list[str]) -> None:
    for name in names or zoo.names():
        for mode in MODES:
            ratios = {"FLOPs": [], "bytes": []}
            for number in range(draws):
                point = draw(name, number, mode)
                program = kernel.trace(point)
                ratios["FLOPs"].append(flops_ratio(point, program))
                ratios["bytes"].append(bytes_ratio(point, program))
            words = (f"{what} {min(r):.2f} to {max(r):.2f}" for what, r in ratios.items())
            print(f"{name:16} {mode:8} {', '.join(words)}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
