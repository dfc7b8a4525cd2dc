"""Calls of ours that repeat other implementations, where one line of options does not say it."""

from unittest import mock

import jax.numpy as jnp
import numpy as np

import attention_zoo as zoo
from attention_zoo.mechanisms import probsparse
from tests.golden import File, swap, value_and_gradients


def bigbird_hparams(s):
    edge = [[]]
    table = [edge + head.tolist() + edge for head in s["i_rand_attn"]]
    return {"block": s["block"], "window": 1, "global_blocks": (1, 1), "table": table}


def longformer(file: File):
    """Every sequence has global tokens of its own, which are static here."""
    s = file.settings

    def call(learned):
        a = {name: swap(x) for name, x in learned.items()}
        qkv = [jnp.concatenate([a[n], a[f"p_{n}g"]], 2) for n in "qkv"]
        outs = []
        for b, chosen in enumerate(file.fixed["i_is_global"]):
            tokens = tuple(np.flatnonzero(chosen).tolist())
            m = zoo.make("global", tokens=tokens, window=s["one_sided_window"], separate=True)
            outs.append(m.apply({}, *(x[b : b + 1] for x in qkv)))
        return swap(jnp.concatenate(outs))

    return value_and_gradients(call, file)


def x_as_values(a):
    """The raw input [B, N, C] as the values of one head."""
    return None, None, a["x"][:, :, None]


def per_head(a, x, axis=0):
    """The array x that all heads share, once a head."""
    return jnp.repeat(jnp.expand_dims(x, axis), a["v"].shape[1], axis)


def gated(file: File):
    """The first half of the channels is multiplied by the other, mixed half."""
    s = file.settings
    m, H = zoo.make("spatial_gating", per_head=True), s["heads"]

    def call(a):
        B, N, C = a["x"].shape
        u, v = jnp.split(a["x"], 2, -1)
        u, v = (x.reshape(B, N, H, -1) for x in (u, v))
        params = {"weight": a["p_weight"], "bias": a["p_bias"]}
        params |= {"gain": a["p_ln_g"].reshape(H, -1), "shift": a["p_ln_b"].reshape(H, -1)}
        return m.apply(params, u, None, v, causal=s["causal"]).reshape(B, N, C // 2)

    return value_and_gradients(call, file)


def informer(file: File):
    """With the keys that the file says were sampled."""
    s, sampled = file.settings, jnp.asarray(file.fixed["i_index_sample"])
    causal = {"ranking": "paper", "rest": "sum"} if s["causal"] else {}
    m = zoo.make("probsparse", factor=s["factor"], **causal)

    def call(a):
        with mock.patch.object(probsparse, "sample", return_value=sampled):
            return swap(m.apply({"seed": None}, *(swap(a[n]) for n in "qkv"), causal=s["causal"]))

    return value_and_gradients(call, file)


def unscaled(a):
    """Undoes our 1 / sqrt(D)."""
    q, k, v = (swap(a[name]) for name in "qkv")
    return q * q.shape[-1] ** 0.5, k, v


def compressed(file: File):
    """The other implementation pads on the left and divides by sqrt(H D)."""
    s = file.settings
    stride = s["compression_factor"]
    m = zoo.make("compressed", stride=stride, window=None, learned=1, bias=True)

    def call(a):
        _, H, N, D = a["q"].shape
        pad = -N % stride
        q, k, v = (jnp.pad(swap(a[n]), ((0, 0), (pad, 0), (0, 0), (0, 0))) for n in "qkv")
        kernel = jnp.einsum("hoic->hcio", a["p_conv_w"].reshape(H, D, D, stride))
        params = {f"{side}_kernel": kernel for side in ("key", "value")}
        params |= {f"{side}_bias": a["p_conv_b"].reshape(H, D) for side in ("key", "value")}
        params |= {f"learned_{n}s": a[f"p_null_{n[0]}"].reshape(1, H, D) for n in ("key", "value")}
        return swap(m.apply(params, q * H**-0.5, k, v, causal=s["causal"])[:, pad:])

    return value_and_gradients(call, file)


def sinkhorn_hparams(s):
    return {"block": s["bucket_size"], "temperature": s["temperature"], "sort": "mean"}


def sinkhorn_gumbel(file: File):
    """Every sequence has noise of its own; ours has one for all."""
    s = file.settings
    m = zoo.make("sinkhorn", gumbel=True, iterations=s["sinkhorn_iter"], **sinkhorn_hparams(s))

    def call(a):
        qkv = [swap(a[n]) for n in "qkv"]
        noises = enumerate(file.fixed["x_gumbel"])
        outs = [m.apply({"gumbel": g}, *(x[b : b + 1] for x in qkv)) for b, g in noises]
        return swap(jnp.concatenate(outs))

    return value_and_gradients(call, file)


def sinkhorn_causal(file: File):
    """The second half of the heads is rotated left by a block less one. What wraps around, all of
    the last block but its first token, then sees only its own kind."""
    s = file.settings
    b, H = s["bucket_size"], file.learned["q"].shape[1]
    m = zoo.make("sinkhorn", learned=True, n_top=s["n_top"], **sinkhorn_hparams(s))
    alone = zoo.make("full")

    def call(a):
        q, k, v = (swap(a[n]) for n in "qkv")
        params = {f"learned_{n}": a[f"p_null_{n}"][:, 0] for n in ("keys", "values")}

        def half(heads, turn):
            own = {name: x[heads] for name, x in params.items()}
            parts = [jnp.roll(x[:, :, heads], -turn, 1) for x in (q, k, v)]
            out = m.apply(own, *parts, causal=True)
            if turn:
                wrapped = alone.apply({}, *(x[:, -turn:] for x in parts), causal=True)
                out = out.at[:, -turn:].set(wrapped)
            return jnp.roll(out, turn, 1)

        halves = half(slice(0, H // 2), 0), half(slice(H // 2, H), b - 1)
        return swap(jnp.concatenate(halves, 2))

    return value_and_gradients(call, file)
