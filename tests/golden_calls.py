"""Calls of ours that repeat other implementations, where one line of options does not say it."""

import jax.numpy as jnp
import numpy as np

import attention_zoo as zoo
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
