"""Synthesizer: softmax(logits) v whose logits compare no query with a key. arXiv:2005.00743.

Kinds, each an [N, N] matrix of logits a head:
- "dense": W₂ relu(W₁ x + b₁) + b₂, x read as `q`;
- "random": R [N, N], trained or (`trained=False`) fixed;
- "factorised_dense": two such vectors of about sqrt(N) from one hidden layer; logit j is entry
  j mod a of the first times entry j div a of the second;
- "factorised_random": R₁ R₂ᵀ with R₁ and R₂ [N, rank];
- "dot": q kᵀ / sqrt(D), to mix with.
A tuple of kinds is mixed before the softmax by learned weights a head that sum to 1. Costs N² E and
more, in O(N) memory beside the parameters: rows are taken `chunk` at a time, head by head
(results/options has what other chunks take and hold). Causal training keeps a head's truth values
of who sees whom too, N² bytes once or twice a sequence.
Differs from the paper: a head reads its own D features of the projected input, not all of it.
"""

import functools
import math

import jax
import jax.numpy as jnp

from attention_zoo import ops, sized
from attention_zoo.parallel import transposed
from attention_zoo.types import Cost, Decode, Dims, Mechanism

KINDS = ("dense", "random", "factorised_dense", "factorised_random", "dot")
FIXED = {"random", "left", "right"}


def make(
    kind: str | tuple[str, ...] = "dense",
    hidden: int | None = None,
    rank: int = 8,
    trained: bool = True,
    length: int | None = None,
    chunk: int = 128,
) -> Mechanism:
    kinds = (kind,) if isinstance(kind, str) else tuple(kind)
    if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(KINDS):
        raise ValueError(f"kind must be one or some of {', '.join(KINDS)}, got {kind!r}")
    ops.positive(rank=rank, chunk=chunk, **({} if hidden is None else {"hidden": hidden}))
    sized.check(length)
    learned = [kind for kind in kinds if trained or not names_of((kind,))]
    # whether weights have a gradient
    learns = bool(learned) or len(kinds) > 1
    reads = "qkv" if "dot" in kinds else "qv" if {"dense", "factorised_dense"} & set(kinds) else "v"

    def init(rng, dims: Dims):
        L, H, D = sized.choose("synthesizer", length, dims), dims.heads, dims.head_dim
        F, (a, b) = hidden or D, factors(L)
        keys = iter(jax.random.split(rng, 7))

        def normal(*shape, scale=1.0):
            return jax.random.normal(next(keys), (H, *shape)) * scale

        drawn = {
            "dense": {
                "dense_w1": normal(D, F, scale=D**-0.5),
                "dense_b1": jnp.zeros((H, F)),
                "dense_w2": normal(F, L, scale=F**-0.5),
                "dense_b2": jnp.zeros((H, L)),
            },
            "random": {"random": normal(L, L)},
            "factorised_dense": {
                "factors_w1": normal(D, F, scale=D**-0.5),
                "factors_b1": jnp.zeros((H, F)),
                "factors_w2": normal(F, a + b, scale=F**-0.5),
                "factors_b2": jnp.zeros((H, a + b)),
            },
            "factorised_random": {
                "left": normal(L, rank, scale=rank**-0.25),
                "right": normal(L, rank, scale=rank**-0.25),
            },
            "dot": {},
        }
        params = {name: x for kind in kinds for name, x in drawn[kind].items()}
        return params | ({"mix": jnp.zeros((H, len(kinds)))} if len(kinds) > 1 else {})

    def rows_of(params, start, C):
        """Parameters with their rows for C queries from `start`, and the others."""
        by_row = {n: x for n, x in params.items() if n in ("random", "left")}
        sliced = {n: jax.lax.dynamic_slice_in_dim(x, start, C, 1) for n, x in by_row.items()}
        return params | sliced

    def logits(params, q, k, S):
        """[B or 1, H, C, S] float32, for q [B, C, H, D], k [B, S, H, D], params of these rows."""

        def two_layers(name):
            inner = ops.product(q.astype(jnp.float32).swapaxes(1, 2), params[f"{name}_w1"])
            return jax.nn.relu(inner + params[f"{name}_b1"][:, None])

        def dense():
            out = ops.product(two_layers("dense"), params["dense_w2"][..., :S])
            return out + params["dense_b2"][:, None, :S]

        def factorised_dense():
            both = ops.product(two_layers("factors"), params["factors_w2"])
            both = both + params["factors_b2"][:, None]
            a = -(-both.shape[-1] // 2)
            outer = both[..., a:, None] * both[..., None, :a]
            return outer.reshape(*outer.shape[:3], -1)[..., :S]

        def factorised_random():
            return jnp.einsum("htr,hsr->hts", params["left"], params["right"][:, :S])[None]

        made = {
            "dense": dense,
            "random": lambda: params["random"][None, :, :, :S],
            "factorised_dense": factorised_dense,
            "factorised_random": factorised_random,
            "dot": lambda: ops.dot(q, k) * q.shape[-1] ** -0.5,
        }
        if len(kinds) == 1:
            return made[kinds[0]]()
        shares = jax.nn.softmax(params["mix"])
        return sum(shares[:, i, None, None] * made[name]() for i, name in enumerate(kinds))

    def fit(params, N):
        capacity = {
            "random": lambda x: x.shape[2],
            "dense_b2": lambda x: x.shape[1],
            "right": lambda x: x.shape[1],
            "factors_b2": lambda x: (x.shape[1] // 2) * -(-x.shape[1] // 2),
        }
        for name in params.keys() & capacity.keys():
            sized.fits("synthesizer", capacity[name](params[name]), N)

    def apply(params, q, k, v, *, mask=None, causal=False):
        B, N, H, E = v.shape
        fit(params, N)
        C = min(chunk, N)
        padded = ops.ceil_to(N, C)

        def cut(x, axis):
            """Rows of x in chunks, which come first."""
            x = ops.pad_to(jax.lax.slice_in_dim(x, 0, N, axis=axis), padded, axis)
            x = x.reshape(*x.shape[:axis], padded // C, C, *x.shape[axis + 1 :])
            return jnp.moveaxis(x, axis, 0)

        def head(inputs):
            """One head's output [chunks, B, C, E]; a head axis of 1 stays in the arrays."""
            params, q, k, v = jax.tree.map(lambda x: x[None], inputs)
            q, k, v = (None if x is None else jnp.moveaxis(x, 0, 2) for x in (q, k, v))
            by_row = {n: cut(params[n], 1) for n in ("random", "left") if n in params}
            starts = jnp.arange(0, padded, C)

            # everything again in the backward pass, but for what `attend` gave
            @functools.partial(jax.checkpoint, policy=ops.KEPT)
            def rows(xs):
                by_row, q, start = xs
                allowed = seen(start + jnp.arange(C), N, mask, causal)
                scores = logits(params | by_row, q, k, N)
                if len(scores) == B and learns:
                    return ops.attend(scores, allowed, v)[:, :, 0]
                # one softmax of a matrix that is one for the batch; no gradient of a fixed one
                weights = ops.softmax(scores, allowed)
                return ops.weigh(jnp.broadcast_to(weights, (B, *weights.shape[1:])), v)[:, :, 0]

            return jax.lax.map(rows, (by_row, None if q is None else cut(q, 1), starts))

        heads = (None if x is None else jnp.moveaxis(x, 2, 0) for x in used(q, k, v))
        out = jax.lax.map(head, (dict(params), *heads))
        return jnp.einsum("hnbce->bnche", out).reshape(B, padded, H, E)[:, :N]

    def used(q, k, v):
        return q if "q" in reads else None, k if "k" in reads else None, v

    def reference(params, q, k, v, *, mask=None, causal=False):
        N = v.shape[1]
        rows = {n: params[n][:, :N] for n in ("random", "left") if n in params}
        matrix = ops.softmax(logits(params | rows, q, k, N), ops.visible(N, N, mask, causal))
        return ops.weigh(jnp.broadcast_to(matrix, (len(v), *matrix.shape[1:])), v)

    def cost(dims: Dims, *, causal=False):
        N, D, E, heads = dims.kv_len, dims.head_dim, dims.value_dim, dims.batch * dims.heads
        L, C, F = length or N, min(chunk, N), hidden or dims.head_dim
        rows = ops.ceil_to(N, C)
        per_row = {
            "dense": heads * F * (D + N),
            "random": 0,
            "factorised_dense": heads * F * (D + sum(factors(L))),
            "factorised_random": dims.heads * rank * N,
            "dot": heads * D * N,
        }
        scores, out = sum(per_row[kind] for kind in kinds), heads * E * N
        # the backward pass: all scores again, and gradients where there are any
        backward = scores + 2 * sum(per_row[kind] for kind in learned)
        backward += out * (2 if learns else 1)
        width = dims.heads * (E + D * ("dot" in kinds)) * dims.itemsize
        numbers = {
            "dense": dims.heads * F * (D + L),
            "random": dims.heads * L * L,
            "factorised_dense": dims.heads * F * (D + sum(factors(L))),
            "factorised_random": 2 * dims.heads * L * rank,
            "dot": 0,
        }
        # heads first: the output, also in chunks, what else is read; of one head all of them again,
        # its random matrix in chunks, and a tile, whose logits may be one for the batch
        streams = len(reads) - 1
        values, chunks, others = heads * N * E, heads * rows * E, heads * N * D * streams
        matrix = rows * N * ("random" in kinds)
        each = dims.batch if streams else 1
        tile, weights = C * N * each, C * N * dims.batch
        one = dims.batch * rows * (2 * E + D * streams)
        held = values + chunks + others + matrix + tile + weights + one + dims.batch * rows * E
        # gradients; JAX keeps of the forward pass what reads rows, and of a head its masks, bytes
        kept = 2 * sum(numbers[kind] for kind in learned) + 3 * values + 2 * chunks + 3 * others
        kept += 2 * tile + max(tile + weights, 2 * matrix) + one
        # what `attend` gave
        kept += chunks * (each == dims.batch and learns)
        masks = causal * rows * N * (2 * each if each > 1 else 1)
        return Cost(
            flops=2 * rows * (scores + out),
            train_flops=2 * rows * (scores + out + backward),
            ideal_flops=2 * heads * E * N * N,
            bytes=4 * held,
            train_bytes=4 * kept + masks,
            state_bytes=dims.batch * N * (width + 1) + 4,
        )

    def decode_init(params, dims: Dims, dtype=jnp.float32):
        fit(params, dims.kv_len)
        shape = (dims.batch, dims.kv_len, dims.heads)
        keys = {"k": jnp.zeros((*shape, dims.head_dim), dtype)} if "dot" in kinds else {}
        return keys | {
            "v": jnp.zeros((*shape, dims.value_dim), dtype),
            "mask": jnp.zeros(shape[:2], bool),
            "length": jnp.zeros((), jnp.int32),
        }

    def write(state, k, v, mask, start):
        new = {"k": k, "v": v, "mask": jnp.ones(v.shape[:2], bool) if mask is None else mask}
        put = jax.lax.dynamic_update_slice_in_dim
        kept = {
            name: put(x, new[name].astype(x.dtype), start, 1)
            for name, x in state.items()
            if name in new
        }
        return {**kept, "length": jnp.asarray(start + v.shape[1], jnp.int32)}

    def prefill(params, state, q, k, v, *, mask=None):
        out = apply(params, q, k, v, mask=mask, causal=True)
        return out, write(state, k, v, mask, 0)

    def step(params, state, q, k, v, *, mask=None):
        start, T = state["length"], v.shape[1]
        state = write(state, k, v, mask, start)
        S = state["v"].shape[1]
        rows = rows_of(params, start, T)
        allowed = seen(start + jnp.arange(T), S, state["mask"], True)
        weights = ops.softmax(logits(rows, q, state.get("k"), S), allowed)
        return ops.weigh(weights, state["v"].astype(v.dtype)), state

    return Mechanism(
        "synthesizer",
        apply,
        reference,
        cost,
        citation="2005.00743",
        formula="N²d'",
        init=init,
        decode=Decode(decode_init, prefill, step),
        parallel=transposed.by_heads("synthesizer", apply, reads, "a head weighs all keys"),
        streams=reads,
        cross=False,
        fixed_length=length,
        frozen=frozenset() if trained else frozenset(FIXED & names_of(kinds)),
    )


def names_of(kinds):
    """Names of the matrices that need no input."""
    return {
        name
        for kind, names in {"random": ["random"], "factorised_random": ["left", "right"]}.items()
        if kind in kinds
        for name in names
    }


def factors(L: int) -> tuple[int, int]:
    """(a, b) with a b >= L, a = b or a = b + 1."""
    a = math.isqrt(L - 1) + 1
    return (a, a - 1) if a * (a - 1) >= L else (a, a)


def seen(i, S: int, mask, causal: bool):
    """[B or 1, 1, C or 1, S] bool: the rows i see these keys; None where all do."""
    if not causal:
        return None if mask is None else mask[:, None, None, :]
    allowed = jnp.arange(S) <= i[:, None]
    return allowed[None, None] if mask is None else allowed & mask[:, None, None, :]
