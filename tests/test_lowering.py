"""Every mechanism lowers for a GPU, forward and backward, without one: by `jax.export`."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

import attention_zoo as zoo
from experiments.kinds import compiled
from tests.cases import CASES, EXTRA, MODES, able

N, SIZES = 64, {"heads": 4, "head_dim": 16}


CUDNN = "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version"
# what jax.export cannot promise to keep: attention in half precision is cuDNN's
FOREIGN = [
    export.DisabledSafetyCheck.custom_call(f"__cudnn$fmha{what}Softmax{suffix}")
    for what in ("", "ScaleBias")
    for suffix in ("", "Backward")
]


def calls():
    """(case, mode, dtype): causal where the mechanism is, for that has the more to lower."""
    for name, case in CASES.items():
        mode = "causal" if able(case, True, N) else "bidirectional"
        for dtype in ("float32", "bfloat16"):
            marks = [pytest.mark.slow] * (name in EXTRA)
            yield pytest.param(name, mode, dtype, marks=marks, id=f"{name}-{dtype}")


@pytest.mark.parametrize(("name", "mode", "dtype"), list(calls()))
def test_lowers_for_cuda(monkeypatch, name, mode, dtype):
    monkeypatch.setattr(CUDNN, lambda: 91000)
    m = CASES[name].m
    dims = zoo.Dims(q_len=N, kv_len=N, **SIZES)
    params = jax.eval_shape(lambda: m.init(jax.random.key(0), dims))
    x = jax.ShapeDtypeStruct((1, N, SIZES["heads"] * m.projections, SIZES["head_dim"]), dtype)
    mask = jax.ShapeDtypeStruct((1, N), bool)
    frozen = {key: params.pop(key) for key in m.frozen}

    def loss(params, q, k, v, frozen, mask):
        hidden = mask if m.mask else None
        out = m.apply(params | frozen, q, k, v, mask=hidden, causal=MODES[mode])
        return out.astype(jnp.float32).sum()

    step = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3), allow_int=True))
    with compiled.as_if_on("gpu"):
        exporter = export.export(step, platforms=["cuda"], disabled_checks=FOREIGN)
        exported = exporter(params, x, x, x, frozen, mask)
    assert exported.platforms == ("cuda",)
    assert exported.mlir_module_serialized
