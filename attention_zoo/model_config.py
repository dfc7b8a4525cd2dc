"""The sizes and choices of a transformer, checked, and the mechanism of each of its layers."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from attention_zoo import ops, registry
from attention_zoo.embedding import patches_of
from attention_zoo.layers import ACTIVATIONS, check_heads

CHOICES = {
    "kind": ("encoder", "decoder", "encoder_decoder"),
    "inputs": ("tokens", "continuous", "patches"),
    "outputs": ("sequence", "position", "value", "flat", "ahead"),
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
    `max_len` positions side by side), a "position" (labels), a step ("value"), or each of the
    steps "ahead" of a sequence."""
    classes: int | None = None
    ahead: int = 0
    """Steps that follow a sequence: positions that hold nothing, and are read. arXiv:2012.07436."""
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
        self._check_ahead()
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

    def _check_ahead(self):
        if (self.outputs == "ahead") != (self.ahead != 0):
            raise ValueError(
                f'outputs="ahead" and ahead, a number of steps, go together, got '
                f"{self.outputs!r} and {self.ahead!r}"
            )
        if self.outputs != "ahead":
            return
        ops.positive(ahead=self.ahead)
        if (self.kind, self.inputs) != ("encoder", "continuous"):
            raise ValueError(
                f"what lies ahead is an encoder's of continuous inputs, got {self.kind!r} of "
                f"{self.inputs!r}"
            )
        if self.decomposition and self.classes != self.features:
            raise ValueError(
                f"with a decomposition what lies ahead has the features of the inputs: classes "
                f"must be {self.features}, got {self.classes}"
            )

    def positions_of(self, steps: int) -> int:
        """How many positions of the model a sequence of so many steps takes."""
        if self.inputs != "patches":
            return steps + self.ahead
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
