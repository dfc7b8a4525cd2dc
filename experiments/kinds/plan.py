"""Points of kind "plan": one layer's call on many accelerators, on paper. Nothing runs.

By the formulas of `attention_zoo.parallel`: what a device holds and sends in a forward and backward
pass, and how long sending takes at a published link speed. What holds are a layer's parameters, q,
k, v and the output, as many gradients, and what has come of other devices' arrays; the kernels'
scratch is left out.
"""

import math
from pathlib import Path

import attention_zoo as zoo
from attention_zoo import parallel
from experiments.kinds import kernel


def check_point(point: dict) -> None:
    """ValueError names the field that is wrong."""
    kernel.mechanism(point)
    kernel.dims(point)
    for name in ("bytes_per_second", "memory_bytes"):
        if not point["link"][name] > 0:
            raise ValueError(f"link.{name} must be above 0, got {point['link'][name]!r}")


def objections(point: dict) -> list[str]:
    m, dims = kernel.mechanism(point), kernel.dims(point)
    return parallel.objections(m, dims, point["devices"], causal=point["causal"])


def predict(point: dict) -> dict:
    # next to nothing, which is not the same as unknown
    return {"flops": 1}


def run_point(point: dict, out: Path) -> dict:
    m, dims, P = kernel.mechanism(point), kernel.dims(point), point["devices"]
    sent = parallel.bytes_sent(m, dims, P, causal=point["causal"])
    params, arrays = parameter_bytes(m, dims, P), array_bytes(m, dims, P)
    total = 2 * (params + arrays) + sent.held
    link = point["link"]
    return {
        "bytes_parameters": params,
        "bytes_arrays": arrays,
        "bytes_held": sent.held,
        "bytes_total": total,
        "memory_share": total / link["memory_bytes"],
        "sent_forward_formula": sent.forward,
        "sent_backward_formula": sent.backward,
        "seconds_sending": (sent.forward + sent.backward) / link["bytes_per_second"],
    }


def parameter_bytes(m: zoo.Mechanism, dims: zoo.Dims, devices: int) -> int:
    """Of a device's share of the parameters."""
    return sum(
        math.prod(x.shape) * x.dtype.itemsize // (devices if parallel.is_split(m, name) else 1)
        for name, x in parallel.shapes(m, dims).items()
    )


def array_bytes(m: zoo.Mechanism, dims: zoo.Dims, devices: int) -> int:
    """Of a device's shard of what is read and of the output."""
    widths = {"q": dims.head_dim, "k": dims.head_dim, "v": dims.value_dim}
    width = sum(widths[letter] for letter in kernel.READS[m.streams]) * m.projections
    token = dims.batch * dims.heads * dims.itemsize
    outputs = dims.q_len // devices
    if m.shorter is not None:
        outputs = m.shorter.length(dims.q_len) // (1 if m.parallel.whole else devices)
    return token * (width * dims.q_len // devices + dims.value_dim * outputs)
