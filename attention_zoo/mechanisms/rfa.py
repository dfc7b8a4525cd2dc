"""Random feature attention: a Gaussian kernel by sin and cos of unit q and k. arXiv:2103.02143.

φ(x) = [cos(w·x), sin(w·x)] sqrt(2 / R) over R / 2 Gaussian rows w; for unit x, y E[φ(x)·φ(y)] is
proportional to exp(x·y / sigma²), so weights are a softmax of cosines; the error falls as R^-1/2.
`sigma`, where it starts, is learned a head and feature of q and k. `unit=False` takes x D^-1/4 as
it is: a Gaussian kernel, a softmax only of keys of one norm. `eps` is added to a row's sum, which
may come near 0. What a longer `chunk` of the causal form takes and holds: results/options.

`gate`: each token keeps g_t = sigmoid(w·k_t + b) of the sums before it and adds 1 - g_t of itself,
so recent tokens weigh more; learned a head. All queries of a call that is not causal read the last
sums. Differs from the paper: the gate reads k, not the layer's input; `refresh` redraws the rows.
"""

import math

import jax
import jax.numpy as jnp

from attention_zoo import ops, recurrence
from attention_zoo.parallel import states
from attention_zoo.types import Dims, Mechanism


def make(
    features: int = 256,
    gate: bool = False,
    sigma: float = 1.0,
    unit: bool = True,
    eps: float = 0.0,
    chunk: int = 64,
) -> Mechanism:
    ops.positive(features=features, chunk=chunk)
    if features % 2:
        raise ValueError(f"features must be even (a sine and a cosine a row), got {features}")
    if not sigma > 0 or eps < 0:
        raise ValueError(f"sigma must be above 0 and eps 0 or more, got {sigma} and {eps}")
    rows = features // 2
    options = {"normalise": True, "chunk": chunk, "eps": eps}

    def init(rng, dims: Dims):
        projection_key, gate_key = jax.random.split(rng)
        H, D = dims.heads, dims.head_dim
        params = {
            "projection": jax.random.normal(projection_key, (H, rows, D)),
            "sigma": jnp.full((H, D), float(sigma)),
        }
        if gate:
            # heads start with memories of 3 to 150 tokens
            params["gate_weight"] = jax.random.normal(gate_key, (H, D)) * 0.1 * D**-0.5
            params["gate_bias"] = jnp.linspace(1.0, 5.0, H)
        return params

    def refresh(rng, params, q, k, *, mask=None):
        projection = jax.random.normal(rng, params["projection"].shape)
        return {**params, "projection": projection}

    def phi(params, x, sigma):
        """[B, H, c, D] -> [B, H, c, features], float32; params as they are, heads first."""
        if unit:
            x = x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)
        else:
            x = x * x.shape[-1] ** -0.25
        angles = (x / sigma) @ jax.lax.stop_gradient(params["projection"]).mT
        return jnp.concatenate(cos_sin(angles), -1) * rows**-0.5

    def keep(params, k):
        """Logarithm of g / (1 - g): [B, H, c]."""
        return (k * params["gate_weight"][:, None]).sum(-1) + params["gate_bias"][:, None]

    def maps(params):
        def of(x):
            return phi(params, x, ops.spread(params["sigma"][None], x.shape[2]))

        def of_keys(k):
            if not gate:
                return of(k), None
            kept = keep(params, k)
            return of(k) * jax.nn.sigmoid(-kept)[..., None], jax.nn.log_sigmoid(kept)

        return of, of_keys

    def apply(params, q, k, v, *, mask=None, causal=False):
        return recurrence.run(maps, params, features, q, k, v, mask, causal=causal, **options)

    def reference(params, q, k, v, *, mask=None, causal=False):
        T, S = q.shape[1], k.shape[1]
        allowed = ops.visible(T, S, mask, causal)
        q, k = (jnp.einsum("bthd->bhtd", x.astype(jnp.float32)) for x in (q, ops.hide(k, mask)))
        features_of = [phi(params, x, params["sigma"][:, None]) for x in (q, k)]
        weights = jnp.einsum("bhtr,bhsr->bhts", *features_of)
        if gate:
            kept = keep(params, k)[:, :, None]
            log_gates = jnp.where(allowed, jax.nn.log_sigmoid(kept), 0.0)
            # what row t keeps of key s passes the gates of all keys after s that t sees
            passed = log_gates[..., ::-1].cumsum(-1)[..., ::-1] - log_gates
            weights = weights * jax.nn.sigmoid(-kept) * jnp.exp(passed)
        weights = jnp.where(allowed, weights, 0.0)
        return ops.weigh(ops.safe_divide(weights, weights.sum(-1, keepdims=True) + eps), v)

    def cost(dims: Dims, *, causal=False):
        each = rows * dims.head_dim
        held = {"replayed": 5.2 if gate else 3.3, "fades": gate}
        return recurrence.cost(dims, features, each, causal=causal, **held, **options)

    kind = states.FADING if gate else states.SUMS
    return Mechanism(
        "rfa",
        apply,
        reference,
        cost,
        citation="2103.02143",
        formula="2(d+d')N·2·features",
        init=init,
        decode=recurrence.decode(maps, lambda dims: features, **options),
        parallel=states.parallel(kind, maps, lambda dims: features, **options),
        refresh=refresh,
        frozen=frozenset({"projection"}),
    )


@jax.custom_jvp
def cos_sin(x):
    """(cos x, sin x) to 1e-6 by products alone: several times faster than the two on a CPU."""
    # of x / 2, which lies within a quarter turn
    turns = x * (0.5 / math.pi)
    half = math.pi * (turns - jnp.round(turns))
    square = jnp.square(half)
    sine, cosine = half * taylor(square, 1), taylor(square, 0)
    return 1 - 2 * jnp.square(sine), 2 * sine * cosine


def taylor(square, odd: int):
    """Σ (-square)^i / (2i + odd)!: cosine, or odd, sine over its argument."""
    total = 0.0
    for i in reversed(range(7)):
        total = total * square + (-1) ** i / math.factorial(2 * i + odd)
    return total


@cos_sin.defjvp
def _(primals, tangents):
    cosine, sine = cos_sin(*primals)
    return (cosine, sine), (-sine * tangents[0], cosine * tangents[0])
