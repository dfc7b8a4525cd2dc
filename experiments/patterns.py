"""Pictures of who attends to whom: the matrix, outputs by keys, that every reference implies.

python -m experiments.patterns --out DIR [--n 60]

Entry (t, s) is the derivative of output t in value s, one feature to the same feature: of a
mechanism that is linear in its values the weight itself. Sheets: a real sentence and random input,
both forms side by side; coloured grids of 16 tokens; heads that use different mechanisms.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import attention_zoo as zoo
from experiments import command
from experiments.figures import grids
from experiments.figures.canvas import Drawing

SENTENCE = b"The animal didn't cross the street because it was too tired."
D, E = 16, 16
# how far from uniform the weights of random queries and keys are
SHARPNESS = 1.2
# hparams that the title of a panel says
TITLED = {"score", "feature_map", "kind", "gate"}


def variants(N: int) -> list[tuple[str, str, dict[str, Any]]]:
    """(title, mechanism, hparams) of every panel, sized for N tokens; what is not listed is drawn
    with its defaults."""
    block = max(N // 10, 2)
    root = max(round(N**0.5), 2)
    listed = [
        ("full", "full", {}),
        ("full, cosine", "full", {"score": "cosine"}),
        ("full, additive", "full", {"score": "additive"}),
        ("full, location", "full", {"score": "location"}),
        ("local", "local", {"window": block}),
        ("strided", "strided", {"stride": root}),
        ("strided + window", "strided", {"stride": root, "window": root - 1}),
        ("global", "global", {"tokens": 2}),
        ("global + window", "global", {"tokens": 2, "window": block // 2}),
        ("bigbird", "bigbird", {"block": block // 2, "random_blocks": 2}),
        ("lsh", "lsh", {"buckets": 4, "block": N // 2}),
        ("lsh, 4 rounds", "lsh", {"buckets": 4, "hashes": 4, "block": block}),
        ("routing", "routing", {"clusters": 4, "window": N // 4}),
        ("sinkhorn", "sinkhorn", {"block": block, "temperature": 0.1}),
        ("sinkhorn, top 1", "sinkhorn", {"block": block, "n_top": 1}),
        ("compressed", "compressed", {}),
        ("linformer", "linformer", {"slots": block}),
        ("nystrom", "nystrom", {"landmarks": block}),
        ("query reduction", "query_reduction", {"slots": root}),
        ("query red., strided", "query_reduction", {"kind": "strided", "stride": root}),
        ("efficient", "efficient", {}),
        ("performer", "performer", {"features": 64}),
        ("linear", "linear", {}),
        ("linear, identity", "linear", {"feature_map": "identity"}),
        ("rfa", "rfa", {"features": 64}),
        ("rfa, gated", "rfa", {"features": 64, "gate": True}),
        ("synth, dense", "synthesizer", {"kind": "dense"}),
        ("synth, random", "synthesizer", {"kind": "random"}),
        ("synth, factorised", "synthesizer", {"kind": "factorised_random"}),
        ("spatial gating", "spatial_gating", {}),
        ("mlp mixer", "mlp_mixer", {}),
        ("fourier", "fourier", {}),
    ]
    known = {name for _, name, _ in listed} | {"mixed"}
    there = [variant for variant in listed if variant[1] in zoo.names()]
    return there + [(name, name, {}) for name in zoo.names() if name not in known]


def embed(tokens: bytes) -> jax.Array:
    """[1, N, C]: a random vector a byte, the same for the same byte, plus waves over positions."""
    C, N = 2 * D, len(tokens)
    table = jax.random.normal(jax.random.key(1), (256, C))
    angles = jnp.arange(N)[:, None] / 10 ** (2 * jnp.arange(C // 2) / C)
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
    return (table[jnp.frombuffer(tokens, jnp.uint8)] + 0.5 * waves)[None]


def project(x, heads: int):
    """(q, k, v) of x [1, N, C] by fixed random projections; keys resemble queries in part."""
    C = x.shape[-1]
    keys = jax.random.split(jax.random.key(2), 3)
    query, key, value = (jax.random.normal(rng, (C, heads, D)) * C**-0.5 for rng in keys)
    key = 0.6 * query + 0.8 * key
    q, k, v = (jnp.einsum("bnc,chd->bnhd", x, w) for w in (query, key, value))
    scale = SHARPNESS / jnp.sqrt(q.std() * k.std() * 1.0)
    return q * scale, k * scale, v


def matrices(m: zoo.Mechanism, x, heads: int = 1, causal: bool = False) -> np.ndarray:
    """[heads, T, S]: what the reference implies on input x [1, N, C]."""
    q, k, v = project(x, heads * m.projections)
    N = x.shape[1]
    dims = zoo.Dims(1, N, N, heads, D, E)
    params = m.init(jax.random.key(3), dims)

    @jax.jit
    @jax.jacrev
    def derivative(feature):
        out = m.reference(params, q, k, v.at[0, :, :, 0].set(feature), causal=causal)
        return out[0, :, :, 0]

    full = np.asarray(derivative(v[0, :, :, 0]))  # [T, heads, S, heads * projections]
    return np.stack(
        [sum(full[:, h, :, h::heads][..., p] for p in range(m.projections)) for h in range(heads)]
    )


def by_group(matrix: np.ndarray) -> np.ndarray:
    """Rows and columns reordered: tokens that see each other stand together, then by position."""
    linked = (matrix != 0) | (matrix.T != 0) | np.eye(len(matrix), dtype=bool)
    for _ in range(len(matrix).bit_length()):
        linked = linked @ linked
    order = np.argsort(linked.argmax(1), kind="stable")
    return matrix[order][:, order]


def panels(x, N: int, forms=(False, True)) -> list[grids.Panel]:
    """Every mechanism in each form: False bidirectional, True causal."""
    found = []
    for title, name, hparams in variants(N):
        m = zoo.make(name, **hparams)
        able = [causal for causal in forms if m.causal or not causal]
        drawn = {causal: matrices(m, x, causal=causal)[0] for causal in able}
        found += row(title, name, brief(hparams), drawn, forms)
        if title == "lsh":
            drawn = {causal: by_group(matrix) for causal, matrix in drawn.items()}
            found += row("lsh, sorted", name, "by bucket, position", drawn, forms)
    return found


def row(title, name, note, drawn, forms) -> list[grids.Panel]:
    """A panel a form: the first with the title, one without a matrix where the form is refused."""
    found = []
    for at, causal in enumerate(forms):
        reason = "" if causal in drawn else "no causal form"
        notes = "causal" if causal else note
        panel = grids.Panel("" if at else title, notes, name, drawn.get(causal), reason)
        found.append(panel)
    return found


def brief(hparams: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in hparams.items() if key not in TITLED}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items())


def different_heads(N: int) -> list[tuple[str, dict[str, Any]]]:
    """The parts of `mixed`, a head each."""
    kept = ("full", "local", "strided", "global + window", "bigbird", "lsh", "linear", "rfa, gated")
    return [(name, hparams) for title, name, hparams in variants(N) if title in kept]


def head_panels(x, N: int) -> list[grids.Panel]:
    parts = different_heads(N)
    m = zoo.make("mixed", parts=tuple(parts))
    found = []
    for causal in (False, True):
        for h, matrix in enumerate(matrices(m, x, len(parts), causal)):
            name, hparams = parts[h]
            title = f"head {h + 1}: {name}"
            note = "causal" if causal else brief(hparams)
            found.append(grids.Panel(title, note, name, matrix))
    return found


def drawings(N: int) -> list[Drawing]:
    """Every sheet."""
    words, noise = SENTENCE[:N], jax.random.normal(jax.random.key(4), (1, N, 2 * D))
    reading = "A row is a query, a column a key; darker is nearer its row's peak, grey is negative."
    spoken, short = (f"{reading}\nBytes of: {text.decode()}" for text in (words, words[:16]))
    title, heads = "Who attends to whom", "Different heads, different patterns"
    sheets = {
        "sentence": (title, spoken, panels(embed(words), N), 10),
        "random": (f"{title}: random input", reading, panels(noise, N), 10),
        "grids": (title, short, panels(embed(words[:16]), 16, (False,)), 6, True),
        "heads": (heads, spoken, head_panels(embed(words), N), len(different_heads(N))),
    }
    return [
        Drawing(f"patterns-{name}", sheet[1], grids.sheet(*sheet)) for name, sheet in sheets.items()
    ]


def main(arguments: list[str] | None = None) -> int:
    p = command.Parser(prog="python -m experiments.patterns", description=__doc__.split("\n")[0])
    p.add_argument("--out", required=True, metavar="DIR", help="written: the sheets, PNG and SVG")
    p.add_argument(
        "--n",
        type=command.count,
        default=len(SENTENCE),
        help="tokens of the sentence (%(default)s)",
    )
    try:
        options = p.parse_args(arguments)
        if not 16 <= options.n <= len(SENTENCE):
            raise ValueError(f"--n must be from 16 to {len(SENTENCE)}, got {options.n}")
    except ValueError as error:
        return command.mistake("patterns", error)
    out = Path(options.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for drawing in drawings(options.n):
            for suffix in ("png", "svg"):
                path = out / f"{drawing.name}.{suffix}"
                path.write_bytes(drawing.save(suffix))
                print(path)
    except OSError as error:
        print(f"cannot write to {out}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
