"""MLP-Mixer's token mixing: W₂ gelu(W₁ x + b₁) + b₂ over positions. arXiv:2105.01601.

Reads the raw input as `v`; every channel of its H heads of E is mixed by the same two layers.
Hidden positions count as 0 and a shorter input is one whose end is hidden. `norm` normalises the
channels of each position before, `residual` adds the input after, as the paper's block does (ours
has its own). Differs from the paper: a sequence with nothing visible gives 0.
"""

import jax
import jax.numpy as jnp

from attention_zoo import ops, sized
from attention_zoo.parallel import traffic
from attention_zoo.types import Cost, Dims, Mechanism, Parallel


def make(
    hidden: int = 256, length: int | None = None, norm: bool = False, residual: bool = False
) -> Mechanism:
    ops.positive(hidden=hidden)
    sized.check(length)

    def init(rng, dims: Dims):
        L = sized.choose("mlp_mixer", length, dims)
        expand, contract = jax.random.split(rng)
        params = {
            "expand": jax.random.normal(expand, (hidden, L)) * L**-0.5,
            "expand_bias": jnp.zeros(hidden),
            "contract": jax.random.normal(contract, (L, hidden)) * hidden**-0.5,
            "contract_bias": jnp.zeros(L),
        }
        if norm:
            params["gain"] = jnp.ones((dims.heads, dims.value_dim))
            params["shift"] = jnp.zeros((dims.heads, dims.value_dim))
        return params

    def enter(params, v, mask):
        """What is mixed, float32, 0 where hidden: [B, N, H, E]."""
        sized.fits("mlp_mixer", params["expand"].shape[1], v.shape[1])
        x = ops.hide(v, mask).astype(jnp.float32)
        if norm:
            x = ops.hide(sized.layer_norm(x, params["gain"], params["shift"]), mask)
        return x

    def leave(mixed, v, mask, axis=None):
        out = mixed + ops.hide(v, mask).astype(jnp.float32) if residual else mixed
        if mask is not None:
            shown = total(mask.sum(1), axis)
            out = jnp.where((shown > 0)[:, None, None, None], out, 0.0)
        return out.astype(v.dtype)

    def apply(params, q, k, v, *, mask=None, causal=False, axis=None):
        B, N, H, E = v.shape
        x = enter(params, v, mask).astype(v.dtype).reshape(B, N, H * E)
        expand, contract = (params[name].astype(v.dtype) for name in ("expand", "contract"))
        inner = total(ops.over_positions(expand[:, :N], x), axis)
        inner += params["expand_bias"][:, None]
        inner = jax.nn.gelu(inner, approximate=False).astype(v.dtype)
        mixed = ops.over_positions(contract[:N], inner)
        mixed += params["contract_bias"][:N, None]
        return leave(mixed.reshape(B, N, H, E), v, mask, axis)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        channels = dims.batch * dims.heads * dims.value_dim
        counts = traffic.reduce(P, 4 * dims.batch * masked, gradient=False)
        return traffic.reduce(P, traffic.FLOAT * channels * hidden) + counts

    def reference(params, q, k, v, *, mask=None, causal=False):
        N = v.shape[1]
        # padded to the full length: the same as a shorter call
        x = ops.pad_to(enter(params, v, mask), params["expand"].shape[1], 1)
        inner = (
            jnp.tensordot(params["expand"], x, (1, 1)) + params["expand_bias"][:, None, None, None]
        )
        inner = inner * (1 + jax.lax.erf(inner * 0.5**0.5)) / 2
        mixed = jnp.tensordot(params["contract"], inner, 1)
        mixed = jnp.moveaxis(mixed + params["contract_bias"][:, None, None, None], 0, 1)
        return leave(mixed[:, :N], v, mask)

    def cost(dims: Dims, *, causal=False):
        N, channels = dims.kv_len, dims.batch * dims.heads * dims.value_dim
        flops = 2 * 2 * channels * hidden * N
        # before the gradients of weights are there, their room serves gelu's parts, if these fit
        gelu = hidden * (1 if channels <= N else 4)
        # as compiled, a norm's gradient has an array more of several sequences, and of long rows
        normed = N * ((dims.batch > 1) + (dims.heads * dims.value_dim > 128))
        normed *= norm and hidden < 2 * channels
        learned = 2 * N * hidden
        # of one sequence: its hidden units, unless a norm's room serves them; and without a norm or
        # a residual nobody reads v where the output's gradient is
        alone = dims.batch == 1 and not norm
        arrays = 3 - (alone and not residual)
        return Cost(
            flops,
            ideal_flops=flops,
            bytes=4 * channels * (2 * max(N, hidden) + alone * hidden),
            train_bytes=4 * (learned + channels * (arrays * N + max(gelu, normed))),
        )

    return Mechanism(
        "mlp_mixer",
        apply,
        reference,
        cost,
        citation="2105.01601",
        formula="2N·hidden·d'",
        init=init,
        streams="x",
        parallel=Parallel(
            apply,
            sent,
            "a sum of hidden units",
            by_position={"expand": 1, "contract": 0, "contract_bias": 0},
        ),
        causal=False,
        cross=False,
        fixed_length=length,
        reasons={"causal": "its hidden layer mixes all positions, later ones too"},
    )


def total(x, axis=None):
    """x summed over the devices of a mesh axis, if any, which have a part of the positions each."""
    return x if axis is None else jax.lax.psum(x, axis)
