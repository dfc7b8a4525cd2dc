"""Recurrent encoder-decoders, what attention was invented for: without it, Bahdanau's, Luong's.

The encoder is a bidirectional LSTM over the source, [B, S, C] with C / 2 a direction; the decoder a
GRU that starts from tanh(W [its last states]). At step t it has y, the token before it:

    "none"      h = GRU([y; s], h')              s the encoder's last states    arXiv:1406.1078
    "additive"  h = GRU([y; attend(h')], h')     uᵀ tanh(W h' + U m)            arXiv:1409.0473
    "dot"       h = GRU([y; a'], h'), and then   hᵀ m                           arXiv:1508.04025
    "general"   a = tanh(W [h; attend(h)])       hᵀ W m
    "concat"                                     uᵀ tanh(W [h; m])

where attend weighs the encoder's outputs m by the softmax of a score, h' is the state before and a'
the step's output before (input feeding). Every form predicts from a = tanh(W [h; context]), so that
only attention differs: Bahdanau's has a maxout of y, h' and context there.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from attention_zoo import ops
from attention_zoo.beam import search
from attention_zoo.embedding import Embedding
from attention_zoo.layers import SequenceMixer
from attention_zoo.mechanisms import recurrent

ATTENTION = ("none", "additive", "dot", "general", "concat")
# what attends with the new state, and feeds its output to the next step
LUONG = ("dot", "general", "concat")
READER = recurrent.make("lstm", bidirectional=True)


@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
    """Sizes of a `RecurrentTranslator`; `width` is even, of embeddings and states."""

    vocab: int
    target_vocab: int
    attention: str = "none"
    width: int = 128
    max_len: int = 1024
    dropout: float = 0.0

    def __post_init__(self):
        if self.attention not in ATTENTION:
            known = ", ".join(ATTENTION)
            raise ValueError(f"attention must be one of {known}, got {self.attention!r}")
        sizes = ("vocab", "target_vocab", "width", "max_len")
        ops.positive(**{name: getattr(self, name) for name in sizes})
        if self.width % 2:
            raise ValueError(f"width must be even, for two directions share it, got {self.width}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")

    def positions_of(self, steps: int) -> int:
        return steps


class RecurrentTranslator(nnx.Module):
    """Called as an encoder-decoder `Transformer` is."""

    def __init__(self, config: RecurrentConfig, *, rngs: nnx.Rngs):
        c = self.config = config
        around = {"positions": "none", "dropout": c.dropout, "rngs": rngs}
        self.embed = Embedding("tokens", c.width, c.max_len, vocab=c.vocab, **around)
        self.target_embed = Embedding("tokens", c.width, c.max_len, vocab=c.target_vocab, **around)
        self.reader = SequenceMixer(READER, c.width, 1, max_len=c.max_len, rngs=rngs)
        self.start = nnx.Linear(c.width, c.width, rngs=rngs)
        self.cell = nnx.GRUCell(2 * c.width, c.width, rngs=rngs)
        if c.attention != "none":
            self.scorer = Scorer(c.attention, c.width, rngs=rngs)
        self.combine = nnx.Linear(2 * c.width, c.width, rngs=rngs)
        self.dropout = nnx.Dropout(c.dropout)
        self.head = nnx.Linear(c.width, c.target_vocab, rngs=rngs)

    def __call__(self, x, target, *, mask=None, train=False, rngs=None):
        """Logits [B, T, target_vocab] in float32; `target` is shifted right, padded at its end."""
        return self.head(self._outputs(x, target, mask, self._keys(train, rngs))[0])

    def weights(self, x, target, mask=None):
        """[B, T, S]: which source positions each target position looks at."""
        if self.config.attention == "none":
            raise ValueError('attention="none" has no weights; take another of ' + str(ATTENTION))
        return self._outputs(x, target, mask, (None,) * 3)[1]

    def sized_by_length(self) -> list:
        return []

    search = search

    def begin(self, x, mask, length: int) -> dict:
        """What decoding goes on from, a row a sequence."""
        return self._read(x, mask, None)

    def advance(self, state: dict, tokens):
        """(logits [B, target_vocab] after these tokens [B], the state after them)."""
        y, _ = self.target_embed(tokens[:, None], None)
        out, _, moving = self._step(state, state["moving"], y[:, 0])
        return self.head(out), {**state, "moving": moving}

    def _outputs(self, x, target, mask, keys):
        state = self._read(x, mask, keys[0])
        y, _ = self.target_embed(target, None, key=keys[1])

        def step(moving, y):
            out, weights, moving = self._step(state, moving, y)
            return moving, (out, weights)

        _, found = jax.lax.scan(step, state["moving"], jnp.moveaxis(y, 1, 0))
        out, weights = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), found)
        return self.dropout(out, deterministic=keys[2] is None, rngs=keys[2]), weights

    def _read(self, x, mask, key):
        embedded, mask = self.embed(x, mask, key=key)
        memory = self.reader(embedded, mask=mask)
        forward, backward = jnp.split(memory, 2, -1)
        # a hidden position keeps the state, so the last one of all has that of the last real one
        last = jnp.concatenate([forward[:, -1], backward[:, 0]], -1)
        h = jnp.tanh(self.start(last))
        state = {"memory": memory, "last": last, "moving": {"h": h, "out": jnp.zeros_like(h)}}
        state["mask"] = jnp.ones(x.shape, bool) if mask is None else mask
        if self.config.attention != "none":
            state["keys"] = self.scorer.keys(memory)
        return state

    def _step(self, state, moving, y):
        """(output [B, C], weights [B, S], what moves) after a token's embedding y [B, C]."""
        kind, h = self.config.attention, moving["h"]
        weights = jnp.zeros(state["mask"].shape)
        if kind in LUONG:
            h, _ = self.cell(h, jnp.concatenate([y, moving["out"]], -1))
        context = state["last"]
        if kind != "none":
            weights = self.scorer(h, state["keys"], state["mask"])
            context = jnp.einsum("bs,bsc->bc", weights, ops.hide(state["memory"], state["mask"]))
        if kind not in LUONG:
            h, _ = self.cell(h, jnp.concatenate([y, context], -1))
        out = jnp.tanh(self.combine(jnp.concatenate([h, context], -1)))
        return out, weights, {"h": h, "out": out}

    def _keys(self, train, rngs):
        if not train or not self.config.dropout:
            return (None,) * 3
        if rngs is None:
            raise ValueError("train=True with dropout needs rngs (nnx.Rngs or a key)")
        return jax.random.split(rngs.dropout() if isinstance(rngs, nnx.Rngs) else rngs, 3)


class Scorer(nnx.Module):
    """How well a state fits each source position, as weights over them."""

    def __init__(self, kind: str, width: int, *, rngs: nnx.Rngs):
        self.kind = kind
        if kind != "dot":
            self.key = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        if kind in ("additive", "concat"):
            self.query = nnx.Linear(width, width, rngs=rngs)
            self.score = nnx.Linear(width, 1, use_bias=False, rngs=rngs)

    def keys(self, memory):
        """What is the same at every step: [B, S, C]."""
        return memory if self.kind == "dot" else self.key(memory)

    def __call__(self, h, keys, mask):
        if self.kind in ("dot", "general"):
            logits = jnp.einsum("bc,bsc->bs", h, keys)
        else:
            logits = self.score(jnp.tanh(self.query(h)[:, None] + keys))[..., 0]
        return ops.softmax(logits, mask)
