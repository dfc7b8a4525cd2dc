"""What a mechanism is: pure functions of arrays, a cost, and facts about both.

Sizes, here and everywhere: B batch, T query length, S key length, H heads, D head size of queries
and keys, E head size of values. Arrays are [B, length, H, head size]; a mask is [B, S], True =
attend.
"""

import dataclasses
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Literal

Params = Mapping[str, Any]
Stream = Literal["qkv", "qv", "kv", "v", "x"]


@dataclasses.dataclass(frozen=True)
class Dims:
    """The sizes of one call. `itemsize` is bytes an element of q, k and v."""

    batch: int = 1
    q_len: int = 1
    kv_len: int = 1
    heads: int = 1
    head_dim: int = 64
    value_dim: int | None = None
    itemsize: int = 4

    def __post_init__(self):
        if self.value_dim is None:
            object.__setattr__(self, "value_dim", self.head_dim)
        for field in dataclasses.fields(self):
            size = getattr(self, field.name)
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{field.name} must be a whole number from 1 up, got {size!r}")


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one call costs. FLOPs count a multiply-add as 2.

    `flops`: matrix products, convolutions and Fourier transforms that `apply` does, equal to the
    count of its traced program. `train_flops`: those of a forward and backward pass together, as
    the traced gradient in trained parameters, q, k and v does them, recomputation included; where
    it is not given, a product costs two more of its size, one for each operand. `ideal_flops`: the
    paper's leading term of a forward call. `bytes`: its output and intermediate arrays alive at the
    widest moment, as compiled for a CPU. `train_bytes`: the same of the forward and backward pass,
    whose outputs are the gradients. `state_bytes`: the decode state for a context of `kv_len`.
    """

    flops: int
    ideal_flops: int
    bytes: int
    state_bytes: int = 0
    train_flops: int | None = dataclasses.field(default=None, kw_only=True)
    train_bytes: int | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        if self.train_flops is None:
            object.__setattr__(self, "train_flops", 3 * self.flops)
        if self.train_bytes is None:
            # a rule of thumb, of what has no formula
            object.__setattr__(self, "train_bytes", round(3.5 * self.bytes))


@dataclasses.dataclass(frozen=True)
class Decode:
    """Token-by-token evaluation, equal to the causal parallel form.

    `init(params, dims, dtype) -> state`: an empty state for `dims.batch` sequences of at most
    `dims.kv_len`. `prefill(params, state, q, k, v, *, mask=None) -> (out, state)`: the first T
    tokens, at the parallel form's cost. `step(params, state, q, k, v, *, mask=None) -> (out,
    state)`: the next T >= 1 tokens.
    """

    init: Callable
    prefill: Callable
    step: Callable


@dataclasses.dataclass(frozen=True)
class Shorter:
    """An output whose positions are not the queries': fewer, for one label a sequence.

    `length(T) -> R`: how many for T queries. `beside(params, x, mask) -> (x, mask)`: of x
    [B, T, H * D] and its mask, or None, the residual [B, R, H * D] to add to such an output, and
    which of its positions [B, R] saw anything.
    """

    length: Callable
    beside: Callable


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that one device sends in a call, forward and in its backward pass, and the most bytes
    of other devices' arrays that it keeps at once. Of a share, a fraction until it is rounded."""

    forward: Fraction = Fraction(0)
    backward: Fraction = Fraction(0)
    held: Fraction = Fraction(0)

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.forward + other.forward, self.backward + other.backward, self.held + other.held
        )


@dataclasses.dataclass(frozen=True)
class Parallel:
    """A device's part of a call whose positions are split evenly over the P devices of a mesh axis.

    `apply(params, q, k, v, *, axis, mask=None, causal=False)` takes its shards and gives its shard
    of the output, within shard_map. `traffic(dims, P, *, causal=False, masked=False) -> Traffic`
    is of the whole call's sizes, the gradients of shared parameters left out.
    """

    apply: Callable
    traffic: Callable
    pattern: str
    """What moves, and how, in a few words."""
    objections: Callable = lambda dims, P, *, causal=False: []
    """`objections(dims, P, *, causal=False) -> list of reasons`."""
    by_position: Mapping[str, int] = dataclasses.field(default_factory=dict, hash=False)
    """Parameters with an axis of positions, which is split as they are; others are shared."""
    by_head: bool = False
    """Every parameter is split along its first axis, the heads."""
    whole: bool = False
    """The output is not split: every device has all of it."""


def no_params(rng, dims: Dims) -> dict:
    return {}


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """An efficient-attention idea with its hyperparameters closed over.

    `apply(params, q, k, v, *, mask=None, causal=False) -> [B, T, H, E]` is the efficient form (with
    `shorter`, [B, R, H, E]), `reference` the dense definition with the same signature,
    `cost(dims, *, causal=False) -> Cost`. Streams that do not read an array accept None for it.
    """

    name: str
    apply: Callable
    reference: Callable
    cost: Callable
    citation: str
    """arXiv numbers, the source first."""
    formula: str = ""
    """Leading multiply-adds of one head of queries and keys of size d and values of size d'."""
    init: Callable = no_params
    """`init(rng, dims) -> params`, a flat dict of arrays."""
    decode: Decode | None = None
    parallel: Parallel | None = None
    """How positions are split over devices; None: `reasons["parallel"]` says why not."""
    refresh: Callable | None = None
    """`refresh(rng, params, q, k, *, mask=None) -> params`: redraws or moves buffers, in training
    steps only; hidden tokens move nothing."""
    streams: Stream = "qkv"
    """What is read: "qkv"; "qv" (no keys, or those of the queries); "kv" (queries of its own); "v";
    "x" (raw input as v)."""
    projections: int = 1
    """How many sets of H heads q, k and v carry (2: Longformer's separate global projections)."""
    shares: int = 1
    """Among how many the heads are split evenly."""
    causal: bool = True
    """Has an exact causal form: no output depends on a later token."""
    leaks: bool = False
    """The causal form is the paper's, in which later tokens move *which* earlier ones are seen."""
    cross: bool = True
    """Takes queries of another length than the keys."""
    by_query: bool = True
    """In cross-attention an output depends on no query but its own, as a decoder needs."""
    mask: bool = True
    """Honours a key padding mask."""
    by_length: str = ""
    """With a mask: how outputs at real positions hang on the length they are padded to; "": not."""
    shorter: Shorter | None = None
    """How the output is shorter than the queries; None: it has one position a query."""
    batch_wide: bool = False
    """The output of a sequence depends on the others of its batch."""
    bias: bool = False
    """`apply` also takes `bias`, broadcastable to [B, H, T, S]."""
    fixed_length: int | None = None
    """The longest sequence that the length-sized parameters serve."""
    frozen: frozenset[str] = frozenset()
    """Names in params that are buffers: no gradient, no weight decay."""
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    """Why a capability is missing, by its name ("causal", "cross", "by_query", "mask",
    "per_position", "parallel")."""


REFUSALS = {
    "causal": "it has no causal form",
    "cross": "queries and keys must be of one length",
    "by_query": "queries mix, so a decoder would see the target's future through it",
    "mask": "it cannot hide keys",
    "per_position": "its outputs belong to no one position: they serve one label a sequence",
    "parallel": "its positions cannot be split over devices",
}


def objections(
    m: Mechanism,
    dims: Dims,
    *,
    causal: bool = False,
    masked: bool = False,
    per_position: bool = False,
    by_query: bool = False,
) -> list[str]:
    """Why `m` cannot do this call; empty where it can. The one capability check of the project.

    `per_position`: every query needs an output of its own; `by_query`: that hangs on no other
    query, as where a decoder reads a source.
    """

    def refuse(capability, got):
        return f"{m.name}: {m.reasons.get(capability, REFUSALS[capability])} (got {got})"

    found = []
    if causal and not m.causal:
        found.append(refuse("causal", "causal=True"))
    if dims.q_len != dims.kv_len and not m.cross:
        found.append(refuse("cross", f"q_len={dims.q_len}, kv_len={dims.kv_len}"))
    if causal and m.cross and dims.q_len != dims.kv_len:
        found.append(f"{m.name}: causal needs q_len = kv_len (got {dims.q_len} and {dims.kv_len})")
    if by_query and not m.by_query:
        found.append(refuse("by_query", "cross-attention of a decoder"))
    if masked and not m.mask:
        found.append(refuse("mask", "a mask"))
    if per_position and m.shorter is not None:
        outputs = m.shorter.length(dims.q_len)
        found.append(refuse("per_position", f"{dims.q_len} positions, {outputs} outputs"))
    if dims.heads % m.shares:
        found.append(f"{m.name}: its {m.shares} parts share the heads evenly (got {dims.heads})")
    if m.fixed_length is not None and max(dims.q_len, dims.kv_len) > m.fixed_length:
        longest = max(dims.q_len, dims.kv_len)
        found.append(f"{m.name}: parameters are sized for length {m.fixed_length} (got {longest})")
    return found
