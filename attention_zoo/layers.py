"""A mechanism as a Flax NNX layer, and the block and stack of blocks around it.

The only randomness is a key handed in. Buffers (features, rotations, centroids) are `Buffer`
variables, so `nnx.split(model, nnx.Param, ...)` leaves them out of gradients and weight decay;
a training call moves those of mechanisms with `refresh`: keep `nnx.state(model, Buffer)` after it,
and merge with `copy=True` inside `jax.grad`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from attention_zoo import sharding
from attention_zoo.dense import Linear
from attention_zoo.types import Dims, Mechanism, objections

ACTIVATIONS = {"gelu": jax.nn.gelu, "relu": jax.nn.relu}
# axes of a mesh that split [B, T, C] and [B, T, H, D]
TOKENS, HEADS = ("data", "sequence"), ("data", "sequence", "model")


class Buffer(nnx.Variable):
    """An array that a mechanism holds frozen: no gradient, no weight decay."""


def rotate(x, positions):
    """Rotary positions on x [B, T, H, D], whose halves span D / 2 planes. arXiv:2104.09864."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * 1e4 ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)


class SequenceMixer(nnx.Module):
    """A mechanism with the projections that its stream reads, and one for its output.

    Self-attention on x [B, T, C]; with `cross`, x attends to a context [B, S, C], or to what `read`
    gives of one. The stream "x" has no projection at all. Parameters are drawn for sequences of
    `max_len`. The output has the length of x, or that of the mechanism's `shorter`.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        width: int,
        heads: int,
        *,
        max_len: int,
        causal: bool = False,
        cross: bool = False,
        rotary: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_heads(width, heads)
        m, D = mechanism, width // heads
        if cross and not m.cross:
            raise ValueError(f"{m.name}: no cross-attention (cross=True); it mixes one sequence")
        if rotary and (m.streams != "qkv" or cross):
            reads = "cross-attention" if cross else f"its stream is {m.streams!r}"
            raise ValueError(
                f"{m.name}: rotary positions turn q and k of self-attention, but {reads}; "
                'take positions "learned", "sinusoidal" or "none"'
            )
        if rotary and D % 2:
            raise ValueError(f"rotary positions need an even head size, got width / heads = {D}")
        dims = Dims(q_len=max_len, kv_len=max_len, heads=heads, head_dim=D)
        refuse(objections(m, dims, causal=causal, per_position=cross))
        self.mechanism, self.heads, self.head_dim, self.max_len = m, heads, D, max_len
        self.causal, self.cross, self.rotary = causal, cross, rotary
        self.dtype = jnp.dtype(dtype)

        def linear(reads):
            if reads not in m.streams:
                return None
            return Linear(width, m.projections * width, dtype=dtype, rngs=rngs)

        self.query, self.key, self.value = linear("q"), linear("k"), linear("v")
        self.out = None if m.streams == "x" else Linear(width, width, dtype=dtype, rngs=rngs)
        kinds = {
            name: Buffer(array) if name in m.frozen else nnx.Param(array)
            for name, array in m.init(rngs.params(), dims).items()
        }
        self.params = nnx.Dict(kinds)

    def __call__(self, x, context=None, *, mask=None, key=None):
        """[B, T, C]; `mask` [B, S] hides keys; a `key` makes it a training step: buffers move."""
        if (context is None) == self.cross:
            wanted = "needs a context" if self.cross else "takes no context"
            raise ValueError(f"a mixer with cross={self.cross} {wanted}")
        context = x if context is None else context
        m, (B, T, _) = self.mechanism, x.shape
        params = self._params()
        q, k, v = (sharding.constrain(x, *HEADS) for x in self._project(x, context))
        dims = Dims(B, T, v.shape[1], self.heads, self.head_dim, itemsize=self.dtype.itemsize)
        refuse(objections(m, dims, causal=self.causal, masked=mask is not None))
        mixed = sharding.apply(m, params, q, k, v, mask=mask, causal=self.causal)
        if key is not None and m.refresh is not None:
            moved = m.refresh(key, *jax.lax.stop_gradient((params, q, k)), mask=mask)
            for name in m.frozen:
                self.params[name][...] = jax.lax.stop_gradient(moved[name])
        return self._leave(mixed)

    def read(self, context):
        """(k, v) of a context, each [B, S, H, D]: what is the same at every step of decoding."""
        return self._heads(self.key, context), self._heads(self.value, context)

    def weights(self, x, context=None, *, mask=None):
        """[B, T, S]: what each position takes of each, the mean over heads; of mechanisms whose
        output is such a weighing of values."""
        context = x if context is None else context
        # in float32, which every implementation takes with values of any width
        q, k, v = (None if a is None else a.astype(jnp.float32) for a in self._project(x, context))
        S = context.shape[1]
        # the weights are what comes out where values tell positions apart
        ones = jnp.broadcast_to(jnp.eye(S)[:, None], (*v.shape[:3], S))
        m, params = self.mechanism, self._params()
        return m.apply(params, q, k, ones, mask=mask, causal=self.causal).mean(2)

    def beside(self, x, mask):
        """(residual, mask) of the output, for an input x [B, T, C]: these two, or shorter ones."""
        m = self.mechanism
        return (x, mask) if m.shorter is None else m.shorter.beside(self._params(), x, mask)

    def sized_by_length(self) -> set[str]:
        """Names of the mechanism's parameters that would be larger for longer sequences."""
        m = self.mechanism

        def shapes(length):
            dims = Dims(q_len=length, kv_len=length, heads=self.heads, head_dim=self.head_dim)
            params = jax.eval_shape(lambda: m.init(jax.random.key(0), dims))
            return {name: x.shape for name, x in params.items()}

        here = shapes(self.max_len)
        if m.fixed_length is not None:
            return {name for name, shape in here.items() if m.fixed_length in shape}
        return {name for name, shape in shapes(2 * self.max_len).items() if here[name] != shape}

    def init_state(self, batch: int, length: int):
        """An empty decode state for sequences of at most `length` tokens."""
        m = self.mechanism
        if m.decode is None:
            raise ValueError(
                f"{m.name} has no token-by-token form (decode is None); call it on whole sequences"
            )
        dims = Dims(batch, length, length, self.heads, self.head_dim, itemsize=self.dtype.itemsize)
        inner = m.decode.init(self._params(), dims, self.dtype)
        return {"mixer": inner, "position": jnp.zeros((), jnp.int32)}

    def prefill(self, x, state, *, mask=None):
        """The first tokens at the parallel form's cost: (out, state)."""
        return self._decode(self.mechanism.decode.prefill, x, state, mask)

    def step(self, x, state, *, mask=None):
        """The next tokens: (out, state)."""
        return self._decode(self.mechanism.decode.step, x, state, mask)

    def _decode(self, advance, x, state, mask):
        position = state["position"]
        inner = state["mixer"]
        mixed, inner = advance(self._params(), inner, *self._project(x, x, position), mask=mask)
        return self._leave(mixed), {"mixer": inner, "position": position + x.shape[1]}

    def _params(self):
        return {name: variable[...] for name, variable in self.params.items()}

    def _project(self, x, context, start=0):
        if self.mechanism.streams == "x":
            return None, None, x.reshape(*x.shape[:2], self.heads, self.head_dim)
        q = self._heads(self.query, x)
        k, v = context if isinstance(context, tuple) else self.read(context)
        if self.rotary:
            positions = start + jnp.arange(x.shape[1])
            q, k = rotate(q, positions), rotate(k, positions)
        return q, k, v

    def _heads(self, linear, x):
        return None if linear is None else linear(x).reshape(*x.shape[:2], -1, self.head_dim)

    def _leave(self, mixed):
        mixed = mixed.reshape(*mixed.shape[:2], -1)
        return mixed if self.out is None else self.out(mixed)


class Block(nnx.Module):
    """Mixer, cross-attention if any, feed-forward; each with a norm, dropout and a residual.

    With `ff` 0 there is no feed-forward. Beside an output that is shorter stands the mechanism's
    own residual, with a mask of its own: `block.mixer.beside(x, mask)` gives both.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        width: int,
        heads: int,
        ff: int,
        *,
        max_len: int,
        cross_mechanism: Mechanism | None = None,
        causal: bool = False,
        rotary: bool = False,
        norm: str = "pre",
        activation: str = "gelu",
        dropout: float = 0.0,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        def layer_norm():
            return nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

        common = {"max_len": max_len, "dtype": dtype, "rngs": rngs}
        self.pre, self.has_cross = norm == "pre", cross_mechanism is not None
        self.activation = activation
        self.mixer = SequenceMixer(mechanism, width, heads, causal=causal, rotary=rotary, **common)
        self.mixer_norm = layer_norm()
        if self.has_cross:
            dims = Dims(q_len=max_len, kv_len=max_len, heads=heads)
            refuse(objections(cross_mechanism, dims, by_query=causal))
            self.cross = SequenceMixer(cross_mechanism, width, heads, cross=True, **common)
            self.cross_norm = layer_norm()
        self.has_ff = ff > 0
        if self.has_ff:
            self.expand = Linear(width, ff, dtype=dtype, rngs=rngs)
            self.contract = Linear(ff, width, dtype=dtype, rngs=rngs)
            self.ff_norm = layer_norm()
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x, *, mask=None, memory=None, memory_mask=None, key=None):
        """[B, T, C]; a `key` makes it a training step (dropout, buffers)."""
        keys = (None,) * 5 if key is None else jax.random.split(key, 5)
        mixed = self.mixer(self._enter(x, self.mixer_norm), mask=mask, key=keys[0])
        x, _ = self.mixer.beside(x, mask)
        return self._residuals(x, mixed, memory, memory_mask, keys[1:])

    def prefill(self, x, state, *, mask=None, memory=None, memory_mask=None):
        mixed, state = self.mixer.prefill(self._enter(x, self.mixer_norm), state, mask=mask)
        return self._residuals(x, mixed, memory, memory_mask), state

    def step(self, x, state, *, mask=None, memory=None, memory_mask=None):
        mixed, state = self.mixer.step(self._enter(x, self.mixer_norm), state, mask=mask)
        return self._residuals(x, mixed, memory, memory_mask), state

    def cross_weights(self, x, memory, *, mask=None, memory_mask=None):
        """[B, T, S]: what each position takes of each of the memory's, the mean over heads."""
        mixed = self.mixer(self._enter(x, self.mixer_norm), mask=mask)
        x = self._join(x, mixed, self.mixer_norm, None)
        return self.cross.weights(self._enter(x, self.cross_norm), memory, mask=memory_mask)

    def _residuals(self, x, mixed, memory, memory_mask, keys=(None,) * 4):
        x = self._join(x, mixed, self.mixer_norm, keys[0])
        if self.has_cross:
            h = self._enter(x, self.cross_norm)
            seen = self.cross(h, memory, mask=memory_mask, key=keys[1])
            x = self._join(x, seen, self.cross_norm, keys[2])
        if not self.has_ff:
            return x
        return self._join(x, self.feed(self._enter(x, self.ff_norm)), self.ff_norm, keys[3])

    def feed(self, h):
        return self.contract(ACTIVATIONS[self.activation](self.expand(h)))

    def _enter(self, x, norm):
        return norm(x) if self.pre else x

    def _join(self, x, branch, norm, key):
        x = x + self.dropout(branch, deterministic=key is None, rngs=key)
        return x if self.pre else norm(x)


class Stack(nnx.Module):
    """Blocks in a row: a loop, or one scanned block whose variables have a leading depth axis."""

    def __init__(self, blocks: list[Block], *, scan: bool = False, remat: bool = False):
        self.depth, self.scan, self.remat = len(blocks), scan, remat
        mixers = [b.mixer for b in blocks] + [b.cross for b in blocks if b.has_cross]
        self.moves = any(mixer.mechanism.refresh is not None for mixer in mixers)
        if not scan:
            self.blocks = nnx.List(blocks)
            return
        shorter = [m.mechanism.name for m in mixers if m.mechanism.shorter is not None]
        if shorter:
            raise ValueError(
                f"scan=True needs layers whose outputs are as long as their inputs, got "
                f"{', '.join(shorter)}; take scan=False"
            )
        parts = [nnx.split(block) for block in blocks]
        graph = parts[0][0]
        if any(other != graph for other, _ in parts):
            named = ", ".join(block.mixer.mechanism.name for block in blocks)
            raise ValueError(
                f"scan=True needs layers that are all alike, got {named}; take scan=False"
            )
        self.blocks = nnx.merge(
            graph, jax.tree.map(lambda *x: jnp.stack(x), *(s for _, s in parts))
        )

    def gather(self, extras: list):
        """One extra a layer in the form that `run` takes."""
        return jax.tree.map(lambda *x: jnp.stack(x), *extras) if self.scan else tuple(extras)

    def init_states(self, batch: int, length: int):
        if not self.scan:
            return tuple(block.mixer.init_state(batch, length) for block in self.blocks)
        graph, variables = nnx.split(self.blocks)
        return jax.vmap(lambda v: nnx.merge(graph, v).mixer.init_state(batch, length))(variables)

    def run(self, visit, x, extras, *, moves: bool = True):
        """x through every block by `visit(block, x, extra) -> (x, extra)`: (x, extras).

        `moves=False` keeps the buffers as they are, as inside a loop of another trace.
        """

        def call(graph, variables, x, extra):
            block = nnx.merge(graph, variables)
            x, extra = visit(block, x, extra)
            x = jax.tree.map(lambda x: sharding.constrain(x, *TOKENS), x)
            return x, (extra, nnx.state(block, Buffer))

        if self.remat:
            call = jax.checkpoint(call, static_argnums=0)
        if self.scan:
            graph, variables = nnx.split(self.blocks)
            x, (extras, buffers) = jax.lax.scan(
                lambda x, layer: call(graph, layer[0], x, layer[1]), x, (variables, extras)
            )
            if moves:
                nnx.update(self.blocks, buffers)
            return x, extras
        left = []
        for block, extra in zip(self.blocks, extras, strict=True):
            x, (extra, buffers) = call(*nnx.split(block), x, extra)
            if moves:
                nnx.update(block, buffers)
            left.append(extra)
        return x, tuple(left)


def check_heads(width: int, heads: int) -> None:
    if width % heads:
        fitting = [n for n in range(1, width + 1) if width % n == 0]
        raise ValueError(f"heads={heads} must divide width={width}; {fitting} do")


def refuse(found: list[str]) -> None:
    if found:
        raise ValueError("; ".join(found))
