"""Time-LLM: a frozen text model forecasts a series whose patches are put in its terms. 2310.01728.

    P = W E                         prototypes [V', C], of the text model's embeddings E [V, C]
    z = attention(patches, P, P)    each patch [N', C] as a mixture of prototypes
    forecast = W_o flatten(text(z) + b_o)

W, the attention, the patches' embedding and W_o are learned; the text model, a decoder, is frozen:
its variables are buffers, which `adopt` fills with those that were trained on text. Left out of the
paper's: the words of a prompt before the patches.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from attention_zoo import ops, registry
from attention_zoo.embedding import Embedding, patches_of
from attention_zoo.layers import Buffer, SequenceMixer
from attention_zoo.model import Transformer, TransformerConfig


@dataclasses.dataclass(frozen=True)
class ReprogrammedConfig:
    """`max_len` steps of one number in, `classes` out; `text` is the decoder's."""

    max_len: int
    classes: int
    text: TransformerConfig
    patch: int = 16
    patch_stride: int = 8
    prototypes: int = 64
    cross_mechanism: str = "full"
    dropout: float = 0.0

    def __post_init__(self):
        sizes = ("max_len", "classes", "patch", "patch_stride", "prototypes")
        ops.positive(**{name: getattr(self, name) for name in sizes})
        if self.text.kind != "decoder":
            raise ValueError(f"text must be a decoder, got a {self.text.kind}")
        positions = self.positions_of(self.max_len)
        if self.text.max_len < positions:
            raise ValueError(
                f"text.max_len must be at least the {positions} patches of {self.max_len} "
                f"steps, got {self.text.max_len}"
            )

    def positions_of(self, steps: int) -> int:
        """How many patches of so many steps the text model reads."""
        return patches_of(steps, self.patch, self.patch_stride)


class ReprogrammedForecaster(nnx.Module):
    def __init__(self, config: ReprogrammedConfig, *, rngs: nnx.Rngs):
        c = self.config = config
        width, heads, positions = c.text.width, c.text.heads, c.positions_of(c.max_len)
        patches = {"features": 1, "patch": c.patch, "patch_stride": c.patch_stride}
        self.embed = Embedding("patches", width, positions, positions="none", **patches, rngs=rngs)
        mix = jax.random.normal(rngs.params(), (c.prototypes, c.text.vocab))
        self.mix = nnx.Param(mix * c.text.vocab**-0.5)
        m = registry.make(c.cross_mechanism)
        self.cross = SequenceMixer(m, width, heads, max_len=c.max_len, cross=True, rngs=rngs)
        self.dropout = nnx.Dropout(c.dropout)
        self.head = nnx.Linear(positions * width, c.classes, rngs=rngs)
        self.text_graph, variables = nnx.split(Transformer(c.text, rngs=rngs))
        leaves, self.text_tree = jax.tree.flatten(variables)
        self.text = nnx.List([Buffer(leaf) for leaf in leaves])

    def __call__(self, x, *, mask=None, train=False, rngs=None):
        """[B, classes] of x [B, max_len, 1]; `train=True` takes `rngs` (nnx.Rngs or a key) where
        there is dropout."""
        c = self.config
        if x.shape[1:] != (c.max_len, 1):
            raise ValueError(f"a reprogrammed forecaster takes [B, {c.max_len}, 1], got {x.shape}")
        if mask is not None:
            raise ValueError("a reprogrammed forecaster takes no mask")
        still = not train or not c.dropout
        if not still and rngs is None:
            raise ValueError("train=True with dropout needs rngs (nnx.Rngs or a key)")
        text = self._text()
        # as the text model sees its tokens
        table = text.embed.table.embedding[...] * c.text.width**0.5
        prototypes = jnp.broadcast_to(self.mix[...] @ table, (len(x), *self._prototypes()))
        patches, _ = self.embed(x, None)
        h = text.embed.place(self.cross(patches, prototypes))

        def visit(block, h, _):
            return block(h), None

        h, _ = text.stack.run(visit, h, text.stack.gather([None] * c.text.depth))
        h = (text.norm(h) if text.norm else h).astype(jnp.float32).reshape(len(x), -1)
        key = rngs.dropout() if isinstance(rngs, nnx.Rngs) else rngs
        return self.head(self.dropout(h, deterministic=still, rngs=None if still else key))

    def sized_by_length(self) -> list:
        return [self.head.kernel]

    def adopt(self, trained) -> None:
        """Fill the text model with the variables of one that was trained."""
        leaves, tree = jax.tree.flatten(trained)
        shapes = [[x.shape for x in of] for of in (leaves, self.text)]
        if tree != self.text_tree or shapes[0] != shapes[1]:
            raise ValueError("the text model that was trained is another than the config's text")
        for held, leaf in zip(self.text, leaves, strict=True):
            held[...] = leaf

    def _text(self):
        leaves = [jax.lax.stop_gradient(held[...]) for held in self.text]
        return nnx.merge(self.text_graph, jax.tree.unflatten(self.text_tree, leaves))

    def _prototypes(self):
        return self.config.prototypes, self.config.text.width
