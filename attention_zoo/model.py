"""The transformer of every experiment: encoder, decoder or encoder-decoder around any mechanism.

Computes in `dtype`; parameters and outputs in float32. Training is functional: `nnx.split` once,
`nnx.merge(graph, params, buffers, copy=True)` inside jit. Where a mechanism moves buffers, the loss
returns `nnx.state(model, Buffer)` too.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from attention_zoo import ops, sharding
from attention_zoo.beam import search
from attention_zoo.decomposition import DecomposedBlock
from attention_zoo.embedding import Embedding, check_inputs
from attention_zoo.generate import advance, begin, generate
from attention_zoo.layers import Block, SequenceMixer, Stack, refuse
from attention_zoo.model_config import (
    TransformerConfig,
    decoder_mechanisms,
    lengths_of,
    mechanisms_of,
)
from attention_zoo.types import Dims, objections


class Transformer(nnx.Module):
    """Blocks around mechanisms, with embeddings before and a linear layer after."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        c = self.config = config
        mixers = mechanisms_of(c.mechanism, c.hparams, c.depth)
        longest = Dims(q_len=c.max_len, kv_len=c.max_len, heads=c.heads)
        for m in mixers:
            refuse(objections(m, longest, per_position=c.per_position))
        around = {"positions": c.positions, "dropout": c.dropout, "dtype": c.dtype, "rngs": rngs}
        steps = {"features": c.features, "patch": c.patch, "patch_stride": c.patch_stride}
        self.embed = Embedding(c.inputs, c.width, c.max_len, vocab=c.vocab, **steps, **around)
        common = {"norm": c.norm, "activation": c.activation, "dropout": c.dropout}
        common |= {"rotary": c.positions == "rotary", "dtype": jnp.dtype(c.dtype), "rngs": rngs}
        sizes = (c.width, c.heads, c.ff)

        block = Block
        if c.decomposition:
            refuse([f"decomposition takes no {m.name}" for m in mixers if m.shorter is not None])
            block = functools.partial(DecomposedBlock, decomposition=c.decomposition)

        def stack(mixers, **kwargs):
            blocks = [
                block(m, *sizes, max_len=length, **common, **kwargs)
                for m, length in zip(mixers, lengths_of(mixers, c.max_len), strict=True)
            ]
            return Stack(blocks, scan=c.scan, remat=c.remat)

        def final_norm():
            return nnx.LayerNorm(c.width, rngs=rngs) if c.norm == "pre" else None

        self.stack = stack(mixers, causal=c.kind == "decoder")
        self.norm = final_norm()
        outputs = {"encoder": c.classes, "decoder": c.vocab, "encoder_decoder": c.target_vocab}
        numbers = outputs[c.kind]
        if c.kind == "encoder_decoder":
            mixers, cross = decoder_mechanisms(c)
            self.target_embed = Embedding(
                "tokens", c.width, c.max_len, vocab=c.target_vocab, **around
            )
            self.target_stack = stack(mixers, causal=True, cross_mechanism=cross)
            self.target_norm = final_norm()
        elif c.inputs == "patches" and c.outputs in ("position", "value"):
            numbers *= c.patch
        sides = c.max_len if c.kind == "encoder" and c.outputs == "flat" else 1
        self.head = nnx.Linear(sides * c.width, numbers, rngs=rngs)

    def __call__(self, x, target=None, *, mask=None, target_mask=None, train=False, rngs=None):
        """Float32: an encoder's [B, classes], [B, T, classes] or [B, ahead, classes], a decoder's
        logits [B, T, vocab].

        `mask` [B, T] is True at real positions. `train=True` takes `rngs` (nnx.Rngs or a key) where
        there is dropout or a buffer to move. `target` is an encoder-decoder's, shifted right.
        """
        c = self.config
        if (target is not None) != (c.kind == "encoder_decoder"):
            raise ValueError(
                f"a {c.kind} takes {'a source and a target' if target is None else 'no target'}"
            )
        key = self._training_key(train, rngs)
        keys = (None, None) if key is None else jax.random.split(key)
        h, folded = self.encode(*with_ahead(c, x, mask), keys[0])
        if c.kind == "encoder_decoder":
            h = self._decode(target, target_mask, h, folded, keys[1])
        elif c.kind == "encoder" and c.outputs == "sequence":
            h = pool(h, folded)
        elif c.kind == "encoder" and c.outputs == "flat":
            h = flatten(h, folded, c.max_len)
        elif c.kind == "encoder" and c.outputs == "ahead":
            h = h[:, -c.ahead :]
        out = self.head(h.astype(jnp.float32))
        if c.decomposition and c.outputs == "ahead":
            # as theirs, whose decoder's trend starts at the mean of the steps before
            out = out + x.astype(jnp.float32).mean(1, keepdims=True)
        if c.kind == "encoder" and c.inputs == "patches" and c.outputs in ("position", "value"):
            B, N, _ = out.shape
            out = out.reshape(B, N * c.patch, c.classes)[:, : x.shape[1]]
        return out

    generate, search, begin, advance = generate, search, begin, advance

    def encode(self, x, mask, key):
        """The first stack's output, and its mask a position (an encoder's or a decoder's)."""
        keys = self._layer_keys(key)
        embedded = self.embed(x, mask, key=None if key is None else keys[-1])
        embedded = jax.tree.map(lambda x: sharding.constrain(x, "data", "sequence"), embedded)

        def visit(block, carry, key):
            h, mask = carry
            _, mask_after = block.mixer.beside(h, mask)
            return (block(h, mask=mask, key=key), mask_after), None

        extras = self.stack.gather(keys[: self.config.depth])
        if self.config.decomposition:
            embedded = _without_trend(*embedded)
        (h, mask), _ = self.stack.run(visit, embedded, extras)
        season, *trend = h if self.config.decomposition else (h,)
        return sum(trend, self.norm(season) if self.norm else season), mask

    def weights(self, x, target, mask=None):
        """[B, T, S] of an encoder-decoder: which source positions the last layer's cross-attention
        takes for each target position, the mean over heads."""
        if self.config.kind != "encoder_decoder":
            raise ValueError(f"weights are an encoder_decoder's, got a {self.config.kind}")
        memory, memory_mask = self.encode(x, mask, None)
        h, _ = self.target_embed(target, None)

        def visit(block, h, _):
            seen = {"memory": memory, "memory_mask": memory_mask}
            return block(h, **seen), block.cross_weights(h, **seen)

        extras = self.target_stack.gather([None] * self.config.depth)
        _, weights = self.target_stack.run(visit, h, extras, moves=False)
        return weights[-1]

    def sized_by_length(self) -> list:
        """Weights around the blocks that would be more for longer sequences."""
        flat = self.config.kind == "encoder" and self.config.outputs == "flat"
        return [self.head.kernel] if flat else []

    def _decode(self, target, mask, memory, memory_mask, key):
        keys = self._layer_keys(key)
        h, mask = self.target_embed(target, mask, key=None if key is None else keys[-1])

        def visit(block, h, key):
            return block(h, mask=mask, memory=memory, memory_mask=memory_mask, key=key), None

        h, _ = self.target_stack.run(visit, h, self.target_stack.gather(keys[: self.config.depth]))
        return self.target_norm(h) if self.target_norm else h

    def _training_key(self, train, rngs):
        """A key where this call draws or moves something; None where it does not."""
        stacks = [self.stack] + (
            [self.target_stack] if self.config.kind == "encoder_decoder" else []
        )
        if not train or not (self.config.dropout or any(stack.moves for stack in stacks)):
            return None
        if rngs is None:
            raise ValueError(
                "train=True with dropout or moving buffers needs rngs (nnx.Rngs or a key)"
            )
        return rngs.dropout() if isinstance(rngs, nnx.Rngs) else rngs

    def _layer_keys(self, key):
        n = self.config.depth + 1
        return [None] * n if key is None else list(jax.random.split(key, n))


def with_ahead(c: TransformerConfig, x, mask):
    """(x, mask) and the steps ahead of them: zeros, all of them seen."""
    if not c.ahead:
        return x, mask
    check_inputs(x, mask, c.inputs, c.features)
    after = ((0, 0), (0, c.ahead))
    mask = mask if mask is None else jnp.pad(mask, after, constant_values=True)
    return jnp.pad(x, (*after, (0, 0))), mask


def _without_trend(h, mask):
    if mask is not None:
        raise ValueError("decomposition takes no mask: a moving mean would see what it hides")
    return (h, jnp.zeros_like(h)), mask


def pool(h, mask):
    """The mean over real positions, float32: [B, C]; 0 where there are none."""
    h = h.astype(jnp.float32)
    if mask is None:
        return h.mean(1)
    return ops.safe_divide(ops.hide(h, mask).sum(1), mask.sum(1, keepdims=True))


def flatten(h, mask, max_len: int):
    """All positions side by side, hidden ones as 0: [B, max_len * C]."""
    if h.shape[1] != max_len:
        raise ValueError(f'outputs="flat" needs max_len={max_len} positions, got {h.shape[1]}')
    return ops.hide(h, mask).reshape(len(h), -1)


def num_params(model: nnx.Module) -> dict[str, int]:
    """Trained numbers: `total`, and of those `by_length`, which grow with the longest sequence.

    The model may be one of shapes alone, as `nnx.eval_shape` makes it.
    """

    def count(variables):
        return sum(x.size for x in jax.tree.leaves(variables))

    by_length = 0
    for _, module in nnx.iter_modules(model):
        if isinstance(module, SequenceMixer):
            trained = nnx.state(module.params, nnx.Param)
            by_length += sum(count(trained.get(name)) for name in module.sized_by_length())
        elif isinstance(module, Embedding) and module.learned:
            by_length += count(nnx.state(module)["positions"])
    by_length += sum(math.prod(weights.shape) for weights in model.sized_by_length())
    return {"total": count(nnx.state(model, nnx.Param)), "by_length": by_length}
