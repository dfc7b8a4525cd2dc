"""Full attention: softmax(score(q, k)) v over every visible pair. arXiv:1706.03762.

Scores, see `attention_zoo.scores`: scaled_dot, dot, general, cosine, additive and location.
`hidden` sizes additive's layer (None: D); `length` is the longest sequence that location serves
(None: the length given to `init`).

Implementations: "plain" builds the [T, S] weights; "chunked" never does (online softmax over tiles,
O(N) memory forward and backward, arXiv:2112.05682, 2205.14135; a causal call skips the future
tiles); "cudnn" is jax.nn.dot_product_attention on a GPU in half precision. None takes cudnn where
it can run, else plain for short and chunked for long sequences. Scores that are no dot product are
always chunked, by rows of queries. A tile is `block` queries by `key_block` keys; results/options
has what other sizes take and hold.
"""

import dataclasses

import jax
import jax.numpy as jnp

from attention_zoo import cache, ops, scores, tiles
from attention_zoo.parallel import ring, traffic
from attention_zoo.types import Cost, Decode, Dims, Mechanism, Parallel

CITATION = "1706.03762; 2112.05682; 2205.14135"

# below this many pairs the [T, S] weights of a head fit in cache and plain wins
PLAIN_PAIRS = 512 * 512


def make(
    score: str = "scaled_dot",
    implementation: str | None = None,
    block: int = 512,
    key_block: int = 1024,
    hidden: int | None = None,
    length: int | None = None,
) -> Mechanism:
    check(score, implementation, hidden, length)
    ops.positive(block=block, key_block=key_block)
    form = scores.SCORES[score]
    reads_keys = score != "location"

    def layout(T, S, causal):
        return tiles.everything(T, S, causal, block, key_block)

    def depth(D):
        """Entries a pair of positions by rows."""
        return (hidden or D) if score == "additive" else 1

    def encode(params, q, k, v):
        return form.query(params, q), form.key(params, k, v)

    def attend(params, q, k, v, *, mask=None, causal=False, bias=None):
        if form.logits is not None:
            if bias is not None:
                raise ValueError(f"bias needs a score that is a dot product, got {score!r}")
            hidden = depth(q.shape[-1])
            return scores.by_rows(form, params, q, k, v, hidden, mask=mask, causal=causal)
        chosen = choose(implementation, q.shape[1] * k.shape[1], q.dtype, bias)
        return IMPLEMENTATIONS[chosen](q, k, v, mask, causal, bias, layout)

    def apply(params, q, k, v, *, mask=None, causal=False, bias=None):
        return attend(params, *encode(params, q, k, v), v, mask=mask, causal=causal, bias=bias)

    def reference(params, q, k, v, *, mask=None, causal=False, bias=None):
        logits = form.formula(params, q, k, v)
        allowed = ops.visible(q.shape[1], v.shape[1], mask, causal)
        return ops.weigh(ops.softmax(logits if bias is None else logits + bias, allowed), v)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        q, k = encode(params, q, k, v)
        T, S = q.shape[1], k.shape[1]
        if form.logits is None:
            own = layout(T, S, causal), lambda source: tiles.past if causal else None
            others = layout(T, S, False), ring.nothing
            ways = {"axis": axis, "own": own, "others": others, "causal": causal}
            return ring.attend(q, k, v, mask, **ways)[0].astype(v.dtype)
        k, v, mask = (
            None if x is None else jax.lax.all_gather(x, axis, axis=1, tiled=True)
            for x in (k, v, mask)
        )
        options = {"mask": mask, "causal": causal, "start": jax.lax.axis_index(axis) * T}
        return scores.by_rows(form, params, q, k, v, depth(q.shape[-1]), **options)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        keys = dims.kv_len // P
        coded = dataclasses.replace(dims, head_dim=form.width(dims, hidden) or 1)
        if form.logits is None:
            return ring.traffic_of(coded, P, keys, masked)
        size = traffic.keys_and_values(coded, keys)
        size -= (form.width(dims, hidden) == 0) * dims.batch * dims.heads * keys * dims.itemsize
        return traffic.gather(P, size) + traffic.gather(
            P, dims.batch * keys * masked, gradient=False
        )

    def cost(dims: Dims, *, causal=False):
        T, S, D, heads = dims.q_len, dims.kv_len, dims.head_dim, dims.batch * dims.heads
        spared = S * heads * (D - form.width(dims, hidden)) * dims.itemsize
        state = cache.state_bytes(S, dims) - spared
        extra = form.flops(dims, hidden)
        if form.logits is not None:
            rows = scores.row_count(dims.batch, T, S, dims.heads, depth(D))
            pair = (hidden or D) + dims.value_dim
            codes = (T + S) * form.width(dims, hidden)
            each = 2 * heads * ops.ceil_to(T, rows) * S
            return Cost(
                flops=extra + each * pair,
                # the logits are recomputed
                train_flops=3 * extra + each * (3 * pair + (hidden or D)),
                ideal_flops=2 * heads * T * S * pair,
                bytes=4 * heads * (T * dims.value_dim + codes + rows * S * (depth(D) + 1)),
                state_bytes=state,
            )
        if choose(implementation, T * S, None, None) != "plain":
            counted = tiles.counted(T, S, causal, block, key_block)
            tiled = counted.cost(dims, ideal_pairs=T * S, state_bytes=state)
            return dataclasses.replace(
                tiled, flops=tiled.flops + extra, train_flops=tiled.train_flops + 3 * extra
            )
        flops = 2 * heads * T * S * (D + dims.value_dim)
        grads = T * D + S * (D + dims.value_dim)
        # logits, weights and the gradients of both, of several sequences in three arrays, and the
        # output twice more: as compiled
        pairs = (3 + (dims.batch == 1)) * T * S
        return Cost(
            flops + extra,
            ideal_flops=flops,
            bytes=4 * heads * (2 * T * S + T * dims.value_dim),
            train_bytes=4 * heads * (pairs + grads + 2 * T * dims.value_dim),
            state_bytes=state,
        )

    def decode():
        """Caches the codes of the keys."""
        inner = cache.cached(
            attend, lambda dims: dims.kv_len, lambda i, C: i, lambda i, j: j <= i, score=one_query
        )

        def init(params, dims, dtype=jnp.float32):
            shape = (dims.batch, dims.kv_len, dims.heads, form.width(dims, hidden))
            return inner.init(params, dims, dtype) | {"k": jnp.zeros(shape, dtype)}

        def over(advance):
            def run(params, state, q, k, v, *, mask=None):
                return advance(params, state, *encode(params, q, k, v), v, mask=mask)

            return run

        return Decode(init, over(inner.prefill), over(inner.step))

    def one_query(params, q, keys):
        if form.logits is None:
            return cache.scaled_dot(params, q, keys)
        return form.logits(params, q[:, None], keys)[:, :, 0]

    return Mechanism(
        "full",
        apply,
        reference,
        cost,
        citation=CITATION if score == "scaled_dot" else f"{form.citation}; {CITATION}",
        formula="(d+d')N²",
        init=lambda rng, dims: form.init(rng, dims, hidden, length or dims.kv_len),
        decode=decode(),
        parallel=Parallel(sharded, sent, "ring" if form.logits is None else "gathered keys"),
        streams="qkv" if reads_keys else "qv",
        fixed_length=length,
        bias=form.logits is None,
    )


def check(score, implementation, hidden, length):
    if score not in scores.SCORES:
        raise ValueError(f"score must be one of {', '.join(scores.SCORES)}, got {score!r}")
    walks = scores.SCORES[score].logits is not None
    choices = (None, "chunked") if walks else (None, *IMPLEMENTATIONS)
    if implementation not in choices:
        given = f"implementation must be one of {choices}"
        raise ValueError(f"{given} with score={score!r}, got {implementation!r}")
    for name, size, owner in (("hidden", hidden, "additive"), ("length", length, "location")):
        if size is not None:
            ops.positive(**{name: size})
            if score != owner:
                raise ValueError(f"{name}={size} needs score={owner!r}, got {score!r}")


def choose(implementation, pairs, dtype, bias):
    """The implementation that runs a call with so many query-key pairs a head."""
    if implementation is not None:
        return implementation
    if bias is None and jax.default_backend() == "gpu" and dtype in (jnp.bfloat16, jnp.float16):
        return "cudnn"
    return "plain" if bias is not None or pairs <= PLAIN_PAIRS else "chunked"


def plain(q, k, v, mask, causal, bias, layout=None):
    allowed = ops.visible(q.shape[1], k.shape[1], mask, causal)
    logits = ops.dot(q, k) * q.shape[-1] ** -0.5
    return ops.attend(logits if bias is None else logits + bias, allowed, v)


def chunked(q, k, v, mask, causal, bias, layout):
    if bias is not None:
        raise ValueError('bias needs implementation="plain", got "chunked"')

    schedule = layout(q.shape[1], k.shape[1], causal)
    out, _ = tiles.attend(q, k, v, schedule, tiles.past if causal else None, mask=mask)
    return out.astype(v.dtype)


def cudnn(q, k, v, mask, causal, bias, layout=None):
    B, T, S = len(q), q.shape[1], k.shape[1]
    # it takes no mask that is one for all queries
    keys = None if mask is None else jnp.broadcast_to(mask[:, None, None, :], (B, 1, T, S))
    out = jax.nn.dot_product_attention(
        q, k, v, bias=bias, mask=keys, is_causal=causal, implementation="cudnn"
    )
    if mask is None:
        return out
    # cuDNN gives the mean value to a row that sees nothing
    seen = jnp.cumsum(mask, 1) > 0 if causal else mask.any(1, keepdims=True)
    return jnp.where(seen[:, :, None, None], out, 0)


IMPLEMENTATIONS = {"plain": plain, "chunked": chunked, "cudnn": cudnn}
