"""Flax's attention layers around our mechanisms: what is honoured is exact, the rest refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import attention_zoo as zoo
from attention_zoo.interop import attention_fn, jax_attention_fn

B, T, C, H = 2, 11, 12, 3
X = jax.random.normal(jax.random.key(0), (B, T, C))
PADDING = (jnp.arange(T) < jnp.array([[7], [11]]))[:, None, None, :]
CAUSAL_MASK = nnx.make_causal_mask(jnp.ones((B, T)))


def run_nnx(fn, x=X, heads=H, **kwargs):
    made = {name: kwargs.pop(name) for name in ("dropout_rate", "num_kv_heads") if name in kwargs}
    given = {} if fn is None else {"attention_fn": fn}
    layer = nnx.MultiHeadAttention(heads, C, **made, **given, decode=False, rngs=nnx.Rngs(0))
    return layer(x, **kwargs)


def run_linen(fn, x=X, **kwargs):
    made = {name: kwargs.pop(name) for name in ("dropout_rate",) if name in kwargs}
    given = {} if fn is None else {"attention_fn": fn}
    layer = linen.MultiHeadDotProductAttention(H, **made, **given)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return layer.init_with_output(rngs, x, x, **kwargs)[0]


RUNS = pytest.mark.parametrize("run", [run_nnx, run_linen])


@RUNS
@pytest.mark.parametrize("mask", [None, PADDING, CAUSAL_MASK, PADDING * CAUSAL_MASK])
def test_full_is_what_flax_computes(run, mask):
    np.testing.assert_allclose(
        run(attention_fn("full"), mask=mask), run(None, mask=mask), atol=1e-6
    )


@RUNS
def test_a_causal_mask_is_refused_not_dropped(run):
    with pytest.raises(ValueError, match=r"local: a mask .* pass causal=True to attention_fn"):
        run(attention_fn("local", window=4), mask=CAUSAL_MASK)


@RUNS
def test_future_is_invisible_through_flax(run):
    fn = attention_fn("local", window=4, causal=True)
    later = X.at[:, 6:].add(jax.random.normal(jax.random.key(1), (B, T - 6, C)))
    before, after = run(fn), run(fn, later)
    assert (before[:, :6] == after[:, :6]).all()
    assert (before[:, 6:] != after[:, 6:]).any()


@RUNS
def test_padded_keys_are_invisible_through_flax(run):
    fn = attention_fn("local", window=4)
    overwritten = X.at[0, 7:].add(3.0)
    before, after = run(fn, mask=PADDING), run(fn, overwritten, mask=PADDING)
    assert (before[0, :7] == after[0, :7]).all()
    assert (run(fn)[0, :7] != run(fn, overwritten)[0, :7]).any()


def test_is_causal_is_honoured():
    asked = run_nnx(attention_fn("linear"), is_causal=True)
    np.testing.assert_array_equal(asked, run_nnx(attention_fn("linear", causal=True)))
    with pytest.raises(ValueError, match=r"global: .*causal=True"):
        run_nnx(attention_fn("global", tokens=0, learned=2, params={}), is_causal=True)


@RUNS
def test_dropout_in_training_is_refused(run):
    fn = attention_fn("full")
    with pytest.raises(ValueError, match=r"full: dropout_rate=0.5 cannot be honoured"):
        run(fn, dropout_rate=0.5, deterministic=False)
    still = run(fn, dropout_rate=0.5, deterministic=True)
    np.testing.assert_array_equal(still, run(fn))


@RUNS
def test_sowing_weights_is_refused(run):
    with pytest.raises(ValueError, match="sow_weights"):
        run(attention_fn("full"), sow_weights=True)


def test_flax_decode_cache_is_refused():
    fn = attention_fn("local", window=4, causal=True)
    layer = nnx.MultiHeadAttention(H, C, attention_fn=fn, decode=True, rngs=nnx.Rngs(0))
    layer.init_cache((B, T, C))
    with pytest.raises(ValueError, match="decode=True cache"):
        layer(X[:, :1])


def test_flax_decode_cache_of_an_uncausal_mechanism_is_exact():
    def decode(**given):
        layer = nnx.MultiHeadAttention(H, C, **given, decode=True, rngs=nnx.Rngs(0))
        layer.init_cache((B, T, C))
        return jnp.concatenate([layer(X[:, i : i + 1]) for i in range(3)], 1)

    np.testing.assert_allclose(decode(attention_fn=attention_fn("full")), decode(), atol=1e-6)


def test_bias_needs_a_mechanism_that_takes_it():
    q = X.reshape(B, T, H, -1)
    bias = jax.random.normal(jax.random.key(2), (1, H, T, T))
    expected = nnx.dot_product_attention(q, q, q, bias=bias)
    np.testing.assert_allclose(attention_fn("full")(q, q, q, bias=bias), expected, atol=1e-6)
    with pytest.raises(ValueError, match="local: a bias"):
        attention_fn("local")(q, q, q, bias=bias)


def test_batch_axes_and_their_absence():
    q = X.reshape(B, T, H, -1)
    fn = attention_fn("local", window=2)
    out = fn(q, q, q, mask=PADDING)
    many = jnp.stack([q, q])
    np.testing.assert_array_equal(fn(many, many, many, mask=PADDING)[1], out)
    alone = fn(q[0], q[0], q[0], mask=PADDING[0])
    np.testing.assert_allclose(alone, out[0], atol=1e-6)


def test_grouped_heads_are_those_of_flax():
    got = run_nnx(attention_fn("full"), heads=6, num_kv_heads=2)
    expected = run_nnx(None, heads=6, num_kv_heads=2)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_learned_parameters_must_be_given():
    hparams = {"tokens": 0, "learned": 2, "window": 3}
    with pytest.raises(ValueError, match=r"global: params must hold keys, values; got none"):
        run_nnx(attention_fn("global", **hparams))
    m = zoo.make("global", **hparams)
    dims = zoo.Dims(q_len=T, kv_len=T, heads=H, head_dim=C // H)
    fn = attention_fn("global", params=m.init(jax.random.key(0), dims), **hparams)
    assert run_nnx(fn).shape == X.shape


@pytest.mark.parametrize("hparams", [("fourier", {}), ("global", {"separate": True, "window": 2})])
def test_what_needs_other_inputs_is_refused(hparams):
    with pytest.raises(ValueError, match="SequenceMixer"):
        attention_fn(hparams[0], **hparams[1])


@RUNS
def test_an_output_of_another_length_is_refused(run):
    latents = jnp.ones((3, H, C // H))
    fn = attention_fn("query_reduction", slots=3, params={"latents": latents})
    with pytest.raises(
        ValueError, match=r"query_reduction: .*no one position.*11 positions, 3 out"
    ):
        run(fn)


def test_jax_nn_signature():
    q = X.reshape(B, T, H, -1)
    lengths = jnp.array([7, 11])
    full = jax_attention_fn("full")
    for kwargs in ({"key_value_seq_lengths": lengths}, {"is_causal": True}, {"mask": PADDING}):
        expected = jax.nn.dot_product_attention(q, q, q, **kwargs)
        np.testing.assert_allclose(full(q, q, q, **kwargs), expected, atol=1e-6)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"scale": 1.0},
        {"query_seq_lengths": jnp.array([7, 11])},
        {"local_window_size": 3},
        {"implementation": "cudnn"},
        {"return_residual": True},
    ],
)
def test_jax_nn_options_are_refused_by_name(kwargs):
    q = X.reshape(B, T, H, -1)
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        jax_attention_fn("full")(q, q, q, **kwargs)
