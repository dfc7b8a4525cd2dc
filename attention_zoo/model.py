"""The transformer of every experiment: encoder, decoder or encoder-decoder around any mechanism.

Computes in `dtype`; parameters and outputs in float32. Training is functional: `nnx.split` once,
`nnx.merge(graph, params, buffers, copy=True)` inside jit. Where a mechanism moves buffers, the loss
returns `nnx.state(model, Buffer)` too.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from attention_zoo import ops, registry, sharding
from attention_zoo.beam import search
from attention_zoo.decomposition import DecomposedBlock
from attention_zoo.embedding import Embedding, patches_of
from attention_zoo.generate import advance, begin, generate
from attention_zoo.layers import ACTIVATIONS, Block, SequenceMixer, Stack, check_heads, refuse
from attention_zoo.types import Dims, objections

CHOICES = {
    "kind": ("encoder", "decoder", "encoder_decoder"),
    "inputs": ("tokens", "continuous", "patches"),
    "outputs": ("sequence", "position", "value", "flat"),
    "positions": ("learned", "sinusoidal", "rotary", "none"),
    "norm": ("pre", "post"),
    "activation": tuple(ACTIVATIONS),
    "dtype": ("float32", "bfloat16"),
}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes and choices of a `Transformer`; a mechanism is one name, or a name a layer."""

    kind: str = "encoder"
    inputs: str = "tokens"
    vocab: int | None = None
    features: int | None = None
    """Numbers a step of continuous and patches inputs."""
    patch: int = 16
    """Steps a patch; a patch is one position of the model."""
    patch_stride: int | None = None
    """Steps from a patch to the next; None: `patch`, so that none overlap."""
    outputs: str = "sequence"
    """An encoder's: `classes` numbers a "sequence" (of the mean of its positions, or "flat": of
    `max_len` positions side by side), a "position" (labels) or a step ("value")."""
    classes: int | None = None
    width: int = 128
    depth: int = 2
    heads: int = 4
    ff: int = 512
    """Width of the feed-forward layers; 0 for none."""
    max_len: int = 1024
    """The longest sequence, in positions of the model."""
    positions: str = "learned"
    norm: str = "pre"
    activation: str = "gelu"
    """Of the feed-forward layers; in 2017 it was "relu"."""
    decomposition: int = 0
    """Positions of the moving mean that an encoder's blocks take off; 0 for none. Autoformer: 25"""
    dropout: float = 0.0
    remat: bool = False
    scan: bool = False
    dtype: str = "float32"
    mechanism: str | tuple[str, ...] = "full"
    hparams: Mapping[str, Any] | tuple = dataclasses.field(default_factory=dict, hash=False)
    decoder_mechanism: str | tuple[str, ...] | None = None
    """An encoder-decoder's decoder self-attention; None: as `mechanism`."""
    decoder_hparams: Mapping[str, Any] | tuple | None = dataclasses.field(default=None, hash=False)
    cross_mechanism: str = "full"
    cross_hparams: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    target_vocab: int | None = None

    def __post_init__(self):
        for name in ("mechanism", "hparams", "decoder_mechanism", "decoder_hparams"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        for name in ("patch", "width", "depth", "heads", "max_len"):
            ops.positive(**{name: getattr(self, name)})
        if self.ff != 0:
            ops.positive(ff=self.ff)
        if self.decomposition != 0:
            ops.positive(decomposition=self.decomposition)
            if self.kind != "encoder":
                raise ValueError(f"decomposition is an encoder's, got a {self.kind}")
        check_heads(self.width, self.heads)
        if self.patch_stride is not None:
            ops.positive(patch_stride=self.patch_stride)
            if self.outputs in ("position", "value") and self.patch_stride != self.patch:
                raise ValueError(
                    f"patch_stride must be patch={self.patch}, or None, for an output a step, got "
                    f"{self.patch_stride}"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if self.kind == "decoder" and self.inputs != "tokens":
            raise ValueError(f'a decoder takes inputs="tokens", got {self.inputs!r}')
        needed = ["vocab"] if self.inputs == "tokens" else ["features"]
        needed += {"encoder": ["classes"], "encoder_decoder": ["target_vocab"]}.get(self.kind, [])
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(
                    f"{name} must be given for a {self.kind} of {self.inputs}, got None"
                )
            ops.positive(**{name: getattr(self, name)})

    def positions_of(self, steps: int) -> int:
        """How many positions of the model a sequence of so many steps takes."""
        if self.inputs != "patches":
            return steps
        return patches_of(steps, self.patch, self.patch_stride or self.patch)

    @property
    def per_position(self) -> bool:
        """Whether the first stack owes an output a position, so that none may shorten it."""
        return self.kind == "decoder" or (self.kind == "encoder" and self.outputs != "sequence")


def mechanisms_of(mechanism, hparams, depth: int) -> list:
    """A mechanism a layer; layers of equal name and hyperparameters share one."""
    names = [mechanism] * depth if isinstance(mechanism, str) else list(mechanism)
    given = [hparams] * depth if isinstance(hparams, Mapping) else list(hparams)
    for field, values in (("mechanism", names), ("hparams", given)):
        if len(values) != depth:
            raise ValueError(
                f"{field} must be one, or one a layer: depth={depth}, got {len(values)}"
            )
    made = []
    for i, layer in enumerate(zip(names, given, strict=True)):
        before = [j for j in range(i) if (names[j], given[j]) == layer]
        made.append(made[before[0]] if before else registry.make(layer[0], **layer[1]))
    return made


def decoder_mechanisms(c: TransformerConfig) -> tuple:
    """(a mechanism a layer, that of cross-attention) of an encoder-decoder's decoder."""
    hparams = c.decoder_hparams
    if hparams is None:
        hparams = {} if c.decoder_mechanism else c.hparams
    mixers = mechanisms_of(c.decoder_mechanism or c.mechanism, hparams, c.depth)
    return mixers, registry.make(c.cross_mechanism, **c.cross_hparams)


def lengths_of(mechanisms: list, length: int) -> list[int]:
    """How many positions each layer gets of a sequence of `length`."""

    def after(n, m):
        return n if m.shorter is None else m.shorter.length(n)

    return list(itertools.accumulate(mechanisms[:-1], after, initial=length))


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
            refuse(objections(cross, longest, by_query=True))
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
        """Float32: an encoder's [B, classes] or [B, T, classes], a decoder's logits [B, T, vocab].

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
        h, folded = self.encode(x, mask, keys[0])
        if c.kind == "encoder_decoder":
            h = self._decode(target, target_mask, h, folded, keys[1])
        elif c.kind == "encoder" and c.outputs == "sequence":
            h = pool(h, folded)
        elif c.kind == "encoder" and c.outputs == "flat":
            h = flatten(h, folded, c.max_len)
        out = self.head(h.astype(jnp.float32))
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
