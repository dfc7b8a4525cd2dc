"""Different heads use different mechanisms: "use them all", the heads of 2004.05150, 2007.14062.

`parts` are (name, hparams) pairs; the heads are split evenly over them in order, and a part named
twice gets two shares. Every part sees its own heads of q, k and v, whatever streams it reads.
"""

import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from attention_zoo import registry
from attention_zoo.types import Cost, Decode, Dims, Mechanism, Parallel, Traffic

DEFAULT = (("full", {}), ("local", {"window": 64}), ("linear", {}), ("bigbird", {}))


def make(parts: tuple[tuple[str, Mapping[str, Any]], ...] = DEFAULT) -> Mechanism:
    if not parts:
        raise ValueError("parts must name at least one mechanism, got none")
    if any(isinstance(part, str) or len(part) != 2 for part in parts):
        raise ValueError(f"parts must be (name, hparams) pairs, got {parts!r}")
    members = [registry.make(name, **hparams) for name, hparams in parts]
    for m in members:
        if m.streams == "x" or m.projections > 1:
            raise ValueError(
                f"parts: {m.name} reads {m.streams!r} with {m.projections} projections, not heads"
            )
        if m.shorter is not None:
            raise ValueError(
                f"parts: {m.name} has outputs of no one position, but heads are joined by position"
            )
    P = len(members)

    def share(dims: Dims):
        if dims.heads % P:
            raise ValueError(f"heads={dims.heads} must be a multiple of the {P} parts of mixed")
        return Dims(
            dims.batch,
            dims.q_len,
            dims.kv_len,
            dims.heads // P,
            dims.head_dim,
            dims.value_dim,
            dims.itemsize,
        )

    def split(x):
        if x.shape[2] % P:
            raise ValueError(f"heads={x.shape[2]} must be a multiple of the {P} parts of mixed")
        return jnp.split(x, P, axis=2)

    def own(params, part):
        """Parameters of one part: those named PART/NAME."""
        return {
            name.partition("/")[2]: x for name, x in params.items() if name.startswith(f"{part}/")
        }

    def join(parts_params):
        return {
            f"{part}/{name}": x
            for part, params in enumerate(parts_params)
            for name, x in params.items()
        }

    def init(rng, dims):
        rngs = jax.random.split(rng, P)
        return join(m.init(r, share(dims)) for m, r in zip(members, rngs, strict=True))

    def over(form):
        def run(params, q, k, v, *, mask=None, causal=False, **where):
            heads = zip(*map(split, (q, k, v)), strict=True)
            call = operator.attrgetter(form)
            outs = [
                call(m)(own(params, part), *qkv, mask=mask, causal=causal, **where)
                for part, (m, qkv) in enumerate(zip(members, heads, strict=True))
            ]
            return jnp.concatenate(outs, axis=2)

        return run

    def cost(dims, *, causal=False):
        costs = [m.cost(share(dims), causal=causal) for m in members]
        # heads are cut out for the parts and joined from theirs: copies, as gradients are
        lanes = 4 * dims.batch * dims.heads
        out = lanes * dims.q_len * dims.value_dim
        read = lanes * (dims.q_len * dims.head_dim + dims.kv_len * (dims.head_dim + dims.value_dim))
        return Cost(
            sum(c.flops for c in costs),
            train_flops=sum(c.train_flops for c in costs),
            ideal_flops=sum(c.ideal_flops for c in costs),
            bytes=max(max(c.bytes for c in costs) + out, read + 2 * out),
            train_bytes=max(sum(c.train_bytes for c in costs), 3 * read + 2 * out),
            state_bytes=sum(c.state_bytes for c in costs),
        )

    def refresh(rng, params, q, k, *, mask=None):
        rngs = jax.random.split(rng, P)
        return join(
            m.refresh(r, own(params, part), *qk, mask=mask) if m.refresh else own(params, part)
            for part, (m, r, qk) in enumerate(
                zip(members, rngs, zip(split(q), split(k), strict=True), strict=True)
            )
        )

    def decode_init(params, dims, dtype=jnp.float32):
        return tuple(
            m.decode.init(own(params, p), share(dims), dtype) for p, m in enumerate(members)
        )

    def advance(form):
        def run(params, state, q, k, v, *, mask=None):
            heads = zip(*map(split, (q, k, v)), strict=True)
            results = [
                getattr(m.decode, form)(own(params, part), state[part], *qkv, mask=mask)
                for part, (m, qkv) in enumerate(zip(members, heads, strict=True))
            ]
            return jnp.concatenate([out for out, _ in results], 2), tuple(s for _, s in results)

        return run

    def sent(dims: Dims, P: int, **call):
        parts = (m.parallel.traffic(share(dims), P, **call) for m in members)
        return sum(parts, Traffic())

    def objections(dims: Dims, P: int, **call):
        return [text for m in members for text in m.parallel.objections(share(dims), P, **call)]

    def parallel():
        forms = [m.parallel for m in members]
        if None in forms or any(form.by_head for form in forms):
            return None
        names = {
            f"{part}/{name}": at
            for part, form in enumerate(forms)
            for name, at in form.by_position.items()
        }
        patterns = "; ".join(dict.fromkeys(form.pattern for form in forms))
        return Parallel(over("parallel.apply"), sent, patterns, objections, by_position=names)

    able = all(m.decode for m in members)
    lengths = [m.fixed_length for m in members if m.fixed_length is not None]
    reasons = {
        need: "; ".join(m.reasons.get(need, m.name) for m in members if not getattr(m, need))
        for need in ("causal", "cross", "by_query", "mask")
        if not all(getattr(m, need) for m in members)
    }
    reasons["parallel"] = "a part that cannot be split, or only by heads, cannot be mixed"
    return Mechanism(
        "mixed",
        over("apply"),
        over("reference"),
        cost,
        citation="2004.05150; 2007.14062",
        formula="the sum of its parts",
        init=init,
        decode=Decode(decode_init, advance("prefill"), advance("step")) if able else None,
        parallel=parallel(),
        refresh=refresh if any(m.refresh for m in members) else None,
        causal=all(m.causal for m in members),
        leaks=any(m.leaks for m in members),
        cross=all(m.cross for m in members),
        by_query=all(m.by_query for m in members),
        mask=all(m.mask for m in members),
        by_length="; ".join(dict.fromkeys(m.by_length for m in members if m.by_length)),
        batch_wide=any(m.batch_wide for m in members),
        fixed_length=min(lengths, default=None),
        frozen=frozenset(f"{part}/{name}" for part, m in enumerate(members) for name in m.frozen),
        shares=P,
        reasons=reasons,
    )
