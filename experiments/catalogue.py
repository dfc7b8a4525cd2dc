"""The README's tables: of mechanisms, from what they say of themselves; of experiments, how many of
their points are recorded.

python -m experiments.catalogue        # rewrites the tables in README.md
"""

import re
from pathlib import Path

import jax

import attention_zoo as zoo
from experiments.running import recorded

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- mechanisms: begin -->", "<!-- mechanisms: end -->"
HEADER = (
    "mechanism",
    "paper",
    "reads",
    "causal",
    "cross",
    "padding",
    "decode state",
    "multiply-adds a head",
    "parameters",
)
# the call that the state and the parameters are stated for
N, CALL = 4096, {"batch": 1, "heads": 8, "head_dim": 64}


def row(name: str) -> tuple[str, ...]:
    """The cells of a mechanism with its default hyperparameters."""
    m = zoo.make(name)
    links = ", ".join(f"[{paper}](https://arxiv.org/abs/{paper})" for paper in papers(m))
    causal = {(True, False): "exact", (True, True): "paper's form only"}.get((m.causal, m.leaks))
    return (
        f"[`{name}`](attention_zoo/mechanisms/{Path(m.apply.__code__.co_filename).name})",
        links or m.citation,
        m.streams,
        causal or "refused",
        cross(m),
        padding(m),
        state(m),
        m.formula,
        parameters(m),
    )


def cross(m: zoo.Mechanism) -> str:
    if not m.cross:
        return "refused"
    return "yes" if m.by_query else "yes, not in a decoder"


def padding(m: zoo.Mechanism) -> str:
    if not m.mask:
        return "refused"
    return "yes, but its length counts" if m.by_length else "yes"


def papers(m: zoo.Mechanism) -> list[str]:
    """arXiv numbers, the source first."""
    return re.findall(r"\d{4}\.\d{4,5}", m.citation)


def state(m: zoo.Mechanism) -> str:
    """How the decode state grows with the context, and its size at N tokens in float32."""
    if m.decode is None:
        return "—"
    held, twice = (
        m.cost(zoo.Dims(q_len=n, kv_len=n, **CALL), causal=True).state_bytes for n in (N, 2 * N)
    )
    growth = "constant" if twice <= 1.1 * held else "grows with N"
    return f"{growth}, {held / 2**20:.2f} MiB"


def parameters(m: zoo.Mechanism) -> str:
    """How many numbers are learned, and how many are frozen buffers, at N tokens."""
    dims = zoo.Dims(q_len=N, kv_len=N, **CALL)
    shapes = jax.eval_shape(lambda: m.init(jax.random.key(0), dims))
    frozen = sum(x.size for name, x in shapes.items() if name in m.frozen)
    free = sum(x.size for x in shapes.values()) - frozen
    return f"{free:,}" + (f" + {frozen:,} frozen" if frozen else "")


def table() -> str:
    rows = [HEADER, ("---",) * len(HEADER), *map(row, zoo.names())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def rewritten(readme: str) -> str:
    """The README's text with the tables of now between their marks."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return recorded.rewritten(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text()))
    print(f"wrote the tables of mechanisms and experiments into {README.name}")
