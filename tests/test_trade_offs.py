"""Choices between speed and memory: the same values, and a table of each beside the default."""

import jax
import numpy as np
import pytest

import attention_zoo as zoo
from configs import options
from experiments.analysis import frames, reading
from experiments.reporting import tables, trade_offs
from tests import synthetic_records as synthetic

POINTS = options.get_sweep(options.get_config())


def call(point, n):
    """Value and gradients of a small call, by the point's options."""
    made = zoo.make(point["mechanism"], **point["hparams"])
    dims = zoo.Dims(q_len=n, kv_len=n, heads=2, head_dim=8, value_dim=8)
    params = made.init(jax.random.key(0), dims)
    q, k, v = jax.random.normal(jax.random.key(1), (3, 1, n, 2, 8))

    def loss(params, q, k, v):
        out = made.apply(params, q, k, v, causal=point["causal"])
        return (out * np.cos(np.arange(out.size)).reshape(out.shape)).sum()

    return jax.jit(jax.value_and_grad(loss, (1, 2, 3)))(params, q, k, v)


@pytest.mark.parametrize("label", options.CHOICES)
def test_choices_compute_the_same(label):
    # longer than most pieces and a multiple of none
    mine = [p for p in POINTS if p["label"] == label and p["mode"] == "train"]
    of_default, *others = (call(point, 300) for point in mine)
    assert mine[0]["option"] == trade_offs.DEFAULT
    assert others
    for found in others:
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(of_default), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def option(words, seconds, held, **changes):
    made = synthetic.kernel("linear", 1024, kind="option", option=words, **changes)
    made["metrics"] |= {"seconds": seconds, "bytes_compiled": held}
    return made


RECORDS = [
    option("chunk 256", 0.03, 4_000_000),
    option("chunk 32", 0.01, 9_000_000),
    option("default", 0.02, 8_000_000),
    option("default", 0.05, 1_000_000, causal=True),
    option("chunk 32", 0.10, 1_500_000, causal=True),
    synthetic.kernel(
        "linear", 1024, kind="option", option="chunk 8", status="oom", reason="too much"
    ),
]


def section_of(records, tmp_path):
    found = reading.read([synthetic.write(tmp_path / "in", records)])
    assert not found.notes
    (section,) = frames.sections(found.frame)
    return section


def test_every_choice_stands_beside_its_default(tmp_path):
    rows = trade_offs.cells(section_of(RECORDS, tmp_path))
    assert [*zip(rows.form, rows.option, strict=True)] == [
        *(("", f"{words}") for words in ("default", "chunk 8", "chunk 32", "chunk 256")),
        *(("causal", words) for words in ("default", "chunk 32")),
    ]
    np.testing.assert_allclose(rows.seconds_ratio, [1, np.nan, 0.5, 1.5, 1, 2])
    np.testing.assert_allclose(rows.bytes_compiled_ratio, [1, np.nan, 1.125, 0.5, 1, 1.5])


def test_of_a_missing_default_there_are_no_ratios(tmp_path):
    rows = trade_offs.cells(section_of(RECORDS[:2], tmp_path))
    assert rows.seconds_ratio.isna().all()
    assert (rows.seconds > 0).all()


def test_where_all_failed_there_is_a_table_of_that(tmp_path):
    (table,) = tables.build(section_of(RECORDS[-1:], tmp_path))
    assert [line[-1] for line in table.text()] == ["oom: too much"]
    assert [*trade_offs.lines(section_of(RECORDS[-1:], tmp_path))] == []


def test_other_lengths_keep_the_default_and_words_are_of_the_point():
    config = options.get_config()
    config.variants["local_share"] = {"mechanism": "local", "block": "n/1024"}
    config.lengths, config.mechanisms = (2**16,), ("full", "full_plain", "local_share")
    found = [(p["label"], p["option"]) for p in options.get_sweep(config) if p["mode"] == "train"]
    assert found == [("full", "default"), ("full", "implementation plain"), ("local", "block 64")]


def test_table_headline_and_failures(tmp_path):
    section = section_of(RECORDS, tmp_path)
    (table,) = tables.build(section)
    assert [line[-1] for line in table.text()][1] == "oom: too much"
    ((figure, words, ids),) = trade_offs.lines(section)
    assert (figure, len(ids.split())) == ("3.00x", 3)
    assert words.endswith("choice of linear, forward at N = 1,024")
    failed = tables.failures(section.frame)
    assert [*failed.frame.label] == ["linear, chunk 8"]
