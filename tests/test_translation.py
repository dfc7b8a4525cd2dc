"""Encoder-decoders, recurrent and of attention: what is hidden, cached decoding, beam search."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attention_zoo as zoo
from attention_zoo.layers import Block
from attention_zoo.model import TransformerConfig
from attention_zoo.recurrent_translator import ATTENTION, RecurrentConfig, RecurrentTranslator
from experiments.measuring import flops

B, S, T, V, START, END = 3, 7, 5, 6, 1, 2
SOURCE = jax.random.randint(jax.random.key(0), (B, S), 0, 9)
TARGET = jax.random.randint(jax.random.key(1), (B, T), 0, V)
MASK = jnp.arange(S) < jnp.array([[4], [S], [1]])
# every mechanism that a decoder can read its source by
ACROSS = [
    name for name in zoo.names() if (m := zoo.make(name)).cross and m.by_query and m.shorter is None
]
TRANSFORMERS = {
    "transformer": {"positions": "sinusoidal", "norm": "post"},
    "scanned": {"scan": True, "depth": 2},
    "efficient": {"mechanism": "linear", "decoder_mechanism": "local", "cross_mechanism": "linear"},
    "recurrent-decoder": {"decoder_mechanism": "recurrent"},
    **{f"across-{name}": {"cross_mechanism": name} for name in ACROSS if name != "full"},
}
NAMES = (*TRANSFORMERS, *ATTENTION)


def build(name):
    if name in ATTENTION:
        config = RecurrentConfig(vocab=9, target_vocab=V, attention=name, width=16, max_len=12)
        return RecurrentTranslator(config, rngs=nnx.Rngs(0))
    return transformer(**TRANSFORMERS[name])


def transformer(**given):
    sizes = {"vocab": 9, "target_vocab": V, "width": 16, "depth": 1, "heads": 2, "ff": 24}
    config = TransformerConfig(kind="encoder_decoder", max_len=12, **sizes | given)
    return zoo.Transformer(config, rngs=nnx.Rngs(0))


def grouped(name):
    """All tests of a model go to one worker, which compiles it once."""
    return pytest.param(name, marks=pytest.mark.xdist_group(f"translation-{name}"))


@pytest.fixture(scope="module", params=map(grouped, NAMES))
def model(request):
    return build(request.param)


def ending(model, bias):
    """With outputs that differ, and END so likely that some of the best targets are short."""
    model.head.kernel[...] *= 2.0
    model.head.bias[...] = model.head.bias[...].at[END].add(bias)
    return model


@functools.cache
def compiled(graph):
    """One program a model and the shapes that it is called with."""
    return jax.jit(lambda v, a, k: nnx.merge(graph, v)(*a, **k))


def call(model, *args, **kwargs):
    graph, variables = nnx.split(model)
    return compiled(graph)(variables, args, kwargs)


def test_padding_of_the_source_is_invisible(model):
    # the mask a row, over what stands there and over something else
    out = call(model, SOURCE, TARGET, mask=MASK)
    np.testing.assert_array_equal(out, call(model, jnp.where(MASK, SOURCE, 8), TARGET, mask=MASK))
    alone = call(model, SOURCE[:1, :4], TARGET[:1])
    np.testing.assert_allclose(out[:1], alone, atol=1e-5)


def test_the_future_of_the_target_is_invisible(model):
    changed = TARGET.at[:, 3:].set((TARGET[:, 3:] + 1) % V)
    before, after = call(model, SOURCE, TARGET), call(model, SOURCE, changed)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert np.abs(before[:, 3:] - after[:, 3:]).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "hparams"),
    [("auto_correlation", {}), ("fourier_enhanced", {"kind": "cross"}), ("query_reduction", {})],
)
def test_what_mixes_queries_is_refused_in_a_decoder(name, hparams):
    words = f"{name}: .*decoder|{name}: .*no one position"
    with pytest.raises(ValueError, match=words):
        transformer(cross_mechanism=name, cross_hparams=hparams)
    across = zoo.make(name, **hparams)
    with pytest.raises(ValueError, match=words):
        Block(zoo.make("full"), 16, 2, 24, max_len=12, cross_mechanism=across, causal=True,
              rngs=nnx.Rngs(0))  # fmt: skip


def test_the_source_matters(model):
    # the last source position, for the first target position
    other = call(model, SOURCE.at[:, -1].add(1) % 9, TARGET)
    assert (np.abs(other - call(model, SOURCE, TARGET))[:, 0] > 1e-6).any()


def test_cached_steps_are_the_whole_call(model):
    whole = call(model, SOURCE, TARGET, mask=MASK)

    @jax.jit
    def by_steps():
        state, found = model.begin(SOURCE, MASK, T), []
        for t in range(T):
            logits, state = model.advance(state, TARGET[:, t])
            found.append(logits)
        return jnp.stack(found, 1)

    np.testing.assert_allclose(by_steps(), whole, atol=2e-5)


@pytest.mark.parametrize("name", ["transformer", "scanned", "dot", "general"])
def test_of_a_longer_source_a_cached_step_reads_only_keys_and_values(name):
    model, counted, depth = build(name), {}, 2 if name == "scanned" else 1
    for length in (S, S + 4):
        state = model.begin(jnp.zeros((B, length), int), None, T)
        counted[length] = flops.count(model.advance, state, TARGET[:, 0]).flops
    assert counted[S + 4] - counted[S] == 2 * depth * B * 2 * 4 * 16


@pytest.mark.parametrize("name", ["transformer", "scanned"])
def test_of_a_longer_source_a_generated_token_reads_only_keys_and_values(name):
    model, depth = build(name), 2 if name == "scanned" else 1

    def generated(length, steps):
        source, prompt = jnp.zeros((B, length), int), jnp.full((B, 1), START)
        return flops.count(lambda s: model.generate(prompt, steps, source=s), source).flops

    longer, shorter = (generated(n, 6) - generated(n, 5) for n in (S + 4, S))
    assert longer - shorter == 2 * depth * B * 2 * 4 * 16


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_after_a_prompt_a_transformer_generates_what_it_predicts(name):
    model, prompt = build(name), jnp.full((B, 1), START)
    drawn = model.generate(prompt, 4, source=SOURCE, source_mask=MASK)
    logits = call(model, SOURCE, jnp.concatenate([prompt, drawn], 1), mask=MASK)
    np.testing.assert_array_equal(drawn, logits[:, :-1].argmax(-1))


def log_probabilities(model, source, mask, targets):
    """Of whole targets [M, T] of one source, each up to its first END."""
    M = len(targets)
    shifted = np.concatenate([np.full((M, 1), START), targets[:, :-1]], 1)
    repeat = [np.repeat(x[None], M, 0) for x in (source, mask)]
    logits = call(model, jnp.asarray(repeat[0]), jnp.asarray(shifted), mask=jnp.asarray(repeat[1]))
    steps = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), targets[..., None], 2)
    steps = steps[..., 0]
    real = np.cumsum(targets == END, 1) - (targets == END) == 0
    return (steps * real).sum(1), real.sum(1)


@pytest.mark.parametrize(("name", "bias"), [("transformer", 1.0), ("additive", 0.5)])
def test_a_wide_beam_finds_the_best_of_all(name, bias):
    model, steps = ending(build(name), bias), 3
    every = np.array(list(itertools.product(range(V), repeat=steps)))
    # after END only END
    ended = np.cumsum(every == END, 1) > 0
    every = np.unique(np.where(ended, END, every), axis=0)
    found, total = model.search(SOURCE, mask=MASK, start=START, end=END, steps=steps, beams=V**2)
    lengths = set()
    for row in range(B):
        scores, length = log_probabilities(model, SOURCE[row], MASK[row], every)
        best = (scores / length**0.6).argmax()
        np.testing.assert_array_equal(found[row], every[best])
        np.testing.assert_allclose(total[row], scores[best], atol=1e-4)
        lengths.add(int(length[best]))
    assert len(lengths) > 1


@pytest.mark.parametrize("beams", [2, 3])
def test_few_beams_are_those_of_a_search_by_hand(beams):
    """Whole calls in place of states, lists in place of arrays: with targets of several lengths."""
    model, steps = ending(build("additive"), 0.5), 6
    found, total = model.search(SOURCE, mask=MASK, start=START, end=END, steps=steps, beams=beams)
    for row in range(B):
        live, ended = [((), 0.0)], []
        for t in range(steps):
            if len(ended) >= beams:
                break
            grown = []
            for tokens, score in live:
                target = jnp.asarray([[START, *tokens] + [0] * (steps - t - 1)])
                logits = call(model, SOURCE[row : row + 1], target, mask=MASK[row : row + 1])
                step = np.asarray(jax.nn.log_softmax(logits[0, t]))
                grown += [((*tokens, token), score + step[token]) for token in range(V)]
            grown.sort(key=lambda pair: -pair[1])
            ended += [pair for pair in grown[:beams] if pair[0][-1] == END]
            live = [pair for pair in grown if pair[0][-1] != END][:beams]
        if len(ended) < beams:
            ended += live
        best = max(ended, key=lambda pair: pair[1] / len(pair[0]) ** 0.6)
        np.testing.assert_array_equal(found[row], best[0] + (END,) * (steps - len(best[0])))
        np.testing.assert_allclose(total[row], best[1], atol=1e-4)


def test_one_beam_is_greedy(model):
    found, total = model.search(SOURCE, mask=MASK, start=START, end=END, steps=T)
    target, ended, expected = jnp.full((B, T), START), np.zeros(B, bool), np.zeros(B)
    for t in range(T):
        logits = jax.nn.log_softmax(call(model, SOURCE, target, mask=MASK)[:, t])
        token = np.where(ended, END, logits.argmax(-1))
        expected += np.where(ended, 0.0, logits.max(-1))
        ended |= token == END
        np.testing.assert_array_equal(found[:, t], token)
        if t + 1 < T:
            target = target.at[:, t + 1].set(token)
    np.testing.assert_allclose(total, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["transformer", "scanned", "efficient", "additive", "general"])
def test_weights_are_those_of_real_positions(name):
    weights = build(name).weights(SOURCE, TARGET, MASK)
    assert weights.shape == (B, T, S)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
    assert (np.where(MASK[:, None], 0.0, weights) == 0).all()
    assert np.ptp(weights[1]) > 1e-4


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"attention": "dots"}, "attention must be one of none, additive, dot"),
        ({"width": 15}, "width must be even, for two directions share it, got 15"),
        ({"vocab": 0}, "vocab must be"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_a_bad_size_is_named(fields, words):
    with pytest.raises(ValueError, match=words):
        RecurrentConfig(**{"vocab": 9, "target_vocab": 6, **fields})


def test_what_cannot_be_searched_says_so():
    decoder = zoo.Transformer(TransformerConfig(kind="decoder", vocab=9), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="search takes an encoder_decoder, got a decoder"):
        decoder.search(SOURCE, start=START, end=END, steps=3)
    with pytest.raises(ValueError, match="steps must be at most max_len=12, got 13"):
        build("dot").search(SOURCE, start=START, end=END, steps=13)
    with pytest.raises(ValueError, match='attention="none" has no weights'):
        build("none").weights(SOURCE, TARGET)
