"""Files of inputs, outputs and gradients of other implementations, and how ours is held to them."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import attention_zoo as zoo

FOLDER = Path(
    os.environ.get("ATTENTION_ZOO_GOLDEN", Path(__file__).parents[2] / "shared" / "golden")
)
# of the largest entry, for values and for each gradient
TOLERANCE = 1e-4
LOOSE = 2e-2


@dataclasses.dataclass(frozen=True)
class File:
    """Arrays of one file: `fixed` and, where it holds their gradients, `learned`."""

    name: str
    settings: Mapping[str, Any]
    learned: Mapping[str, np.ndarray]
    fixed: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, name: str):
        with np.load(FOLDER / f"{name}.npz") as stored:
            arrays = dict(stored)
        learned = {key: x for key, x in arrays.items() if f"d{key}" in arrays}
        fixed = {key: x for key, x in arrays.items() if key not in learned}
        return cls(name, json.loads(str(fixed.pop("settings"))), learned, fixed)

    def expected(self):
        """(out, gradients by name)."""
        return self.fixed["out"], {key: self.fixed[f"d{key}"] for key in self.learned}


def swap(x):
    """[B, H, N, D] of the files to [B, N, H, D] of ours, and back."""
    return jnp.swapaxes(x, 1, 2)


@dataclasses.dataclass(frozen=True)
class Golden:
    """The call of ours that a file states: `hparams(settings and fixed arrays)`,
    `params(arrays, settings)`, `qkv(arrays)` in our layout, `out(out, settings)` back in theirs."""

    mechanism: str
    hparams: Callable = lambda s: {}
    params: Callable = lambda a, s: {}
    qkv: Callable = lambda a: [swap(a[name]) for name in "qkv"]
    out: Callable = lambda out, s: swap(out)
    mask: str | None = None

    def run(self, file: File):
        """(out, gradients by name), of the loss that the file's gradients belong to."""
        s = file.settings
        m = zoo.make(self.mechanism, **self.hparams(s | file.fixed))
        mask = file.fixed.get(self.mask)

        def call(learned):
            arrays = file.fixed | learned
            out = m.apply(
                self.params(arrays, s),
                *self.qkv(arrays),
                mask=mask,
                causal=bool(s.get("causal", False)),
            )
            return self.out(out, s)

        return value_and_gradients(call, file)


@dataclasses.dataclass(frozen=True)
class Corrected:
    """Why a file is not matched, and what ours must give: `statement(file) -> (out, gradients)`.

    `peer(file)` is the same statement with the fault left in, which must give the file.
    """

    reason: str
    golden: Any
    statement: Callable
    peer: Callable | None = None


def value_and_gradients(call, file: File, dtype=jnp.float32):
    """(out, gradients by name) of `call(learned)`, for the file's cotangent."""
    cotangent = jnp.asarray(file.fixed["cot"], dtype)

    def loss(learned):
        out = call(learned)
        return (out.astype(dtype) * cotangent).sum(), out

    learned = {name: jnp.asarray(x, dtype) for name, x in file.learned.items()}
    gradients, out = jax.jit(jax.grad(loss, has_aux=True))(learned)
    return out, gradients


def stated(formula):
    """The statement `formula(learned, file) -> out`, in float64."""

    def run(file: File):
        with jax.enable_x64(True):
            found = value_and_gradients(lambda a: formula(a, file), file, jnp.float64)
            return jax.tree.map(np.asarray, found)

    return run


def weighted(v, weights):
    """Rows of weights [B, H, N, N] divided by their sums, times v, in the files' layout."""
    return jnp.einsum("bhts,bhse->bhte", weights / weights.sum(-1, keepdims=True), v)


def assert_matches(got, want, tolerance=TOLERANCE, loose=None):
    """(out, gradients) against (out, gradients), each array relative to its largest entry.

    `loose` [B, H, N] names rows of out and dv in which the other implementation itself is inexact.
    """
    (out, gradients), (want_out, want_gradients) = got, want
    assert set(gradients) == set(want_gradients)
    pairs = {"out": (out, want_out)} | {
        f"d{name}": (gradients[name], x) for name, x in want_gradients.items()
    }
    for name, (actual, desired) in pairs.items():
        actual, desired = np.asarray(actual, np.float64), np.asarray(desired, np.float64)
        assert actual.shape == desired.shape, name
        error = np.abs(actual - desired) / (np.abs(desired).max() or 1)
        if loose is not None and name in ("out", "dv"):
            assert error[loose].max() <= LOOSE, (name, error[loose].max())
            error = error[~loose]
        assert error.max() <= tolerance, (name, error.max())


def run(golden, file: File):
    return golden.run(file) if isinstance(golden, Golden) else golden(file)
