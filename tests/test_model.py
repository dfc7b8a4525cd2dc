"""The transformer around every mechanism: masks, causality, generation, options, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attention_zoo as zoo
from attention_zoo.embedding import fold, patches_of
from attention_zoo.model import TransformerConfig, num_params

B, T, VOCAB, CLASSES = 2, 11, 17, 3
SIZES = {"vocab": VOCAB, "classes": CLASSES, "width": 16, "heads": 4, "ff": 20, "max_len": 24}
SIZES["depth"] = 1  # most facts need one block, and each compiles
TOKENS = jax.random.randint(jax.random.key(0), (B, T), 0, VOCAB)
STEPS = jax.random.normal(jax.random.key(1), (B, T, 5))
MASK = jnp.arange(T) < jnp.array([[8], [T]])

# sizes that fit a sequence of 11; every other mechanism runs with its defaults
HPARAMS = {
    "local": {"window": 3},
    "strided": {"stride": 3},
    "global": {"tokens": 2, "window": 2},
    "bigbird": {"block": 4},
    "linear": {"chunk": 4},
    "sinkhorn": {"block": 4},
    "routing": {"clusters": 4, "window": 4},
    "query_reduction": {"slots": 5},
}


def build(**kwargs):
    return zoo.Transformer(TransformerConfig(**{**SIZES, **kwargs}), rngs=nnx.Rngs(0))


def able(name, **call):
    m = zoo.make(name, **HPARAMS.get(name, {}))
    return not zoo.objections(m, zoo.Dims(q_len=24, kv_len=24, heads=4, head_dim=4), **call)


def evaluate(model, *args, **kwargs):
    """One compiled call, which is quicker than many small ones."""
    graph, variables = nnx.split(model)
    static = {k: v for k, v in kwargs.items() if isinstance(v, bool)}
    arrays = {k: v for k, v in kwargs.items() if k not in static}
    return jax.jit(lambda v, a, k: nnx.merge(graph, v)(*a, **k, **static))(variables, args, arrays)


def with_gradient(model, *args, **kwargs):
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def run(params, rest):
        def loss(params):
            out = nnx.merge(graph, params, rest, copy=True)(*args, **kwargs)
            return (out**2).mean(), out

        return jax.value_and_grad(loss, has_aux=True)(params)

    (_, out), grads = run(params, rest)
    return out, grads


@pytest.mark.parametrize("name", zoo.names())
def test_every_mechanism_trains_in_an_encoder(name):
    model = build(mechanism=name, hparams=HPARAMS.get(name, {}))
    mask = MASK if able(name, masked=True) else None
    out, grads = with_gradient(model, TOKENS, mask=mask, train=True, rngs=jax.random.key(2))
    assert out.shape == (B, CLASSES)
    assert out.dtype == jnp.float32
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert np.abs(grads["embed"]["table"]["embedding"][...]).max() > 0


@pytest.mark.parametrize("name", [n for n in zoo.names() if able(n, masked=True)])
def test_padding_is_invisible(name):
    model = build(mechanism=name, hparams=HPARAMS.get(name, {}))
    tokens = jnp.concatenate([TOKENS, jnp.where(MASK, TOKENS, 5)])
    outs = evaluate(model, tokens, mask=jnp.concatenate([MASK] * 2))
    np.testing.assert_array_equal(outs[:B], outs[B:])


@pytest.mark.parametrize("name", [n for n in zoo.names() if able(n, causal=True)])
def test_generation_is_the_causal_model_token_by_token(name):
    model = build(kind="decoder", mechanism=name, hparams=HPARAMS.get(name, {}), depth=2, scan=True)
    if zoo.make(name, **HPARAMS.get(name, {})).decode is None:
        with pytest.raises(ValueError, match=f"{name} has no token-by-token form"):
            model.generate(TOKENS, 5)
        return
    drawn = model.generate(TOKENS, 5)
    logits = evaluate(model, jnp.concatenate([TOKENS, drawn], 1))
    np.testing.assert_array_equal(drawn, logits[:, T - 1 : -1].argmax(-1))


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "none"])
def test_decoder_sees_no_future(positions):
    model = build(kind="decoder", positions=positions)
    later = TOKENS.at[:, 6:].set((TOKENS[:, 6:] + 1) % VOCAB)
    before, after = evaluate(model, jnp.concatenate([TOKENS, later])).reshape(2, B, T, VOCAB)
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] != after[:, 6:]).any()


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_positions_tell_orders_apart(positions):
    out = evaluate(build(positions=positions), jnp.concatenate([TOKENS, TOKENS[:, ::-1]]))
    plain = evaluate(build(positions="none"), jnp.concatenate([TOKENS, TOKENS[:, ::-1]]))
    assert np.abs(out[:B] - out[B:]).max() > 1e-3
    np.testing.assert_allclose(plain[:B], plain[B:], atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "x", "outputs", "shape"),
    [
        ("tokens", TOKENS, "position", (B, T, CLASSES)),
        ("continuous", STEPS, "value", (B, T, CLASSES)),
        ("patches", STEPS, "sequence", (B, CLASSES)),
        ("patches", STEPS, "value", (B, T, CLASSES)),
    ],
)
def test_inputs_and_outputs(inputs, x, outputs, shape):
    model = build(inputs=inputs, outputs=outputs, features=5, patch=4)
    assert evaluate(model, x, mask=MASK).shape == shape


def test_a_flat_head_reads_every_position_and_no_hidden_one():
    model = build(inputs="continuous", features=5, outputs="flat", max_len=T, positions="none")
    overwritten = jnp.where(MASK[..., None], STEPS, 9.0)
    turned = STEPS[:, ::-1]
    masks = jnp.concatenate([MASK, MASK, MASK[:, ::-1]])
    outs = evaluate(model, jnp.concatenate([STEPS, overwritten, turned]), mask=masks)
    np.testing.assert_array_equal(outs[:B], outs[B : 2 * B])
    # without positions a mean would not tell the order
    assert np.abs(outs[:B] - outs[2 * B :]).max() > 1e-3
    assert num_params(model)["by_length"] == T * 16 * CLASSES
    with pytest.raises(ValueError, match=r'"flat" needs max_len=11 positions, got 9'):
        model(STEPS[:, :9])


@pytest.mark.parametrize(("patch", "stride"), [(4, 2), (4, 3), (3, 5), (16, 8), (4, 4)])
def test_overlapping_patches_are_windows(patch, stride):
    x = jnp.arange(T, dtype=jnp.float32)[None, :, None]
    pieces, seen = fold(x, jnp.ones((1, T), bool), patch, stride)
    count = patches_of(T, patch, stride)
    padded = np.pad(np.arange(T), (0, patch + stride * count))
    windows = [padded[i * stride : i * stride + patch] for i in range(count)]
    np.testing.assert_array_equal(pieces[0], windows)
    assert seen.shape == (1, count)
    # every step is in a patch where they overlap or touch, and none more would be needed
    assert (count - 1) * stride + patch >= T
    assert (count - 2) * stride + patch < T


def test_hidden_steps_of_a_half_hidden_patch_are_invisible():
    model = build(inputs="patches", features=5, patch=3)
    overwritten = jnp.where(MASK[..., None], STEPS, 9.0)
    outs = evaluate(model, jnp.concatenate([STEPS, overwritten]), mask=jnp.concatenate([MASK] * 2))
    np.testing.assert_array_equal(outs[:B], outs[B:])
    # a patch of nothing but hidden steps is as good as absent
    cut = evaluate(model, STEPS[:1, :9], mask=MASK[:1, :9])
    np.testing.assert_allclose(cut[0], outs[0], atol=1e-6)


def test_left_padded_prompts_ignore_the_padding():
    model = build(kind="decoder", positions="rotary")
    mask = jnp.ones((B, T), bool).at[0, :4].set(False)
    drawn = model.generate(TOKENS, 5, mask=mask)
    np.testing.assert_array_equal(drawn[0], model.generate(TOKENS[:1, 4:], 5)[0])


def test_temperature_draws_by_the_key():
    model = build(kind="decoder")
    a, b, c = (
        model.generate(TOKENS, 12, temperature=2.0, rng=jax.random.key(n)) for n in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.fixture(scope="module")
def looped():
    return with_gradient(build(kind="decoder", depth=3), TOKENS)


@pytest.mark.parametrize(
    "options", [{"scan": True}, {"remat": True}, {"scan": True, "remat": True}]
)
def test_scan_and_remat_change_nothing(options, looped):
    plain, grads = looped
    out, other = with_gradient(build(kind="decoder", depth=3, **options), TOKENS)
    np.testing.assert_allclose(out, plain, atol=2e-6)
    np.testing.assert_allclose(
        other["embed"]["table"]["embedding"][...],
        grads["embed"]["table"]["embedding"][...],
        atol=1e-7,
    )


def test_a_mechanism_a_layer():
    hparams = ({"window": 2}, {}, {"window": 4})
    model = build(mechanism=("local", "full", "local"), hparams=hparams, depth=3)
    made = [block.mixer.mechanism.name for block in model.stack.blocks]
    assert made == ["local", "full", "local"]
    assert evaluate(model, TOKENS, mask=MASK).shape == (B, CLASSES)


def test_dropout_needs_and_follows_the_key():
    model = build(dropout=0.3)
    with pytest.raises(ValueError, match="needs rngs"):
        model(TOKENS, train=True)
    one, again = (evaluate(model, TOKENS, train=True, rngs=jax.random.key(0)) for _ in range(2))
    other = evaluate(model, TOKENS, train=True, rngs=jax.random.key(1))
    still = evaluate(model, TOKENS)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert (one != still).any()


def test_bfloat16_keeps_float32_parameters_and_logits():
    model = build(kind="decoder", dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(nnx.state(model, nnx.Param))} == {jnp.dtype("float32")}
    out = evaluate(model, TOKENS)
    exact = evaluate(build(kind="decoder"), TOKENS)
    assert out.dtype == jnp.float32
    assert 0 < np.abs(out - exact).max() < 0.15


def test_parameters_are_counted():
    counts = num_params(build())
    C, F = 16, 20
    block = 4 * (C * C + C) + 2 * C * F + F + C + 4 * C
    assert counts["by_length"] == 24 * C
    assert counts["total"] == VOCAB * C + 24 * C + block + 2 * C + C * CLASSES + CLASSES
    assert num_params(build(positions="none"))["by_length"] == 0


def test_without_feed_forward_the_mixers_are_all():
    C = 16
    counts = num_params(build(ff=0, positions="none"))
    assert counts["total"] == VOCAB * C + 4 * (C * C + C) + 4 * C + C * CLASSES + CLASSES
    out = evaluate(build(ff=0), TOKENS, mask=MASK)
    assert out.shape == (B, CLASSES)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("length", [None, 40])
@pytest.mark.parametrize("scan", [False, True])
def test_parameters_sized_by_length_are_counted_apart(length, scan):
    model = {"positions": "none", "mechanism": "linformer", "depth": 2, "scan": scan}
    counts = num_params(build(**model, hparams={"slots": 3, "length": length}))
    assert counts["by_length"] == 2 * 2 * 3 * (length or 24)


def test_the_graph_is_hashable_as_static_arguments_must_be():
    config = {"hparams": {"window": 3}, "mechanism": ["local"]}
    assert isinstance(hash(nnx.graphdef(build(**config))), int)


REFUSALS = {
    "heads=3 must divide width=16": {"heads": 3},
    "kind must be one of encoder, decoder, encoder_decoder, got 'gpt'": {"kind": "gpt"},
    "inputs must be one of tokens, continuous, patches": {"inputs": "bytes"},
    "outputs must be one of sequence, position, value, flat": {"outputs": "label"},
    "positions must be one of learned, sinusoidal, rotary, none": {"positions": "alibi"},
    "norm must be one of pre, post": {"norm": "rms"},
    "activation must be one of gelu, relu, got 'silu'": {"activation": "silu"},
    "dtype must be one of float32, bfloat16": {"dtype": "float16"},
    "classes must be given for a encoder of tokens": {"classes": None},
    "features must be given": {"inputs": "continuous"},
    "depth must be a whole number": {"depth": 0},
    "dropout must be at least 0 and below 1": {"dropout": 1.0},
    "patch_stride must be patch=4, or None, for an output a step, got 2": {
        "inputs": "patches",
        "features": 5,
        "outputs": "value",
        "patch": 4,
        "patch_stride": 2,
    },
    "a decoder takes inputs=\"tokens\", got 'patches'": {"kind": "decoder", "inputs": "patches"},
    "depth=1, got 3": {"mechanism": ("full",) * 3},
    "local has no hyperparameter 'windw'.*did you mean 'window'": {
        "mechanism": "local",
        "hparams": {"windw": 3},
    },
    "unknown mechanism 'locl'": {"mechanism": "locl"},
    "fourier: .*future": {"mechanism": "fourier", "kind": "decoder"},
    "scan=True needs layers that are all alike, got full, local": {
        "mechanism": ("full", "local"),
        "depth": 2,
        "scan": True,
    },
}


@pytest.mark.parametrize("message", REFUSALS)
def test_impossible_models_are_refused(message):
    with pytest.raises(ValueError, match=message):
        build(**REFUSALS[message])


CALLS = {
    "25 positions, longer than max_len=24": lambda m: m(jnp.zeros((1, 25), jnp.int32)),
    r"tokens must be whole numbers \[B, T\], got float32": lambda m: m(STEPS[..., 0]),
    r"mask must be bool \(2, 11\), got bool \(2, 10\)": lambda m: m(TOKENS, mask=MASK[:, 1:]),
    "a decoder takes no target": lambda m: m(TOKENS, TOKENS),
    r"at most max_len=24, got 11 \+ 14": lambda m: m.generate(TOKENS, 14),
    "steps must be a whole number": lambda m: m.generate(TOKENS, 0),
    "temperature must be 0, or above with rng": lambda m: m.generate(TOKENS, 1, temperature=1.0),
    "pad prompts on the left": lambda m: m.generate(TOKENS, 1, mask=MASK),
    "got decoder, a source": lambda m: m.generate(TOKENS, 1, source=TOKENS),
}


@pytest.fixture(scope="module")
def decoder():
    return build(kind="decoder")


@pytest.mark.parametrize("message", CALLS)
def test_impossible_calls_are_refused(message, decoder):
    with pytest.raises(ValueError, match=message):
        CALLS[message](decoder)
