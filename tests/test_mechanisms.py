"""What every kernel owes, held for every case by parametrisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attention_zoo as zoo
from tests.cases import (
    CASES,
    EXTRA,
    LENGTH,
    MODES,
    able,
    assert_close,
    both,
    compiled,
    dims,
    inputs,
    padding,
    runs,
)


def marks(name):
    """All tests of a case go to one worker, which compiles it once."""
    group = pytest.mark.xdist_group(name)
    return [group, pytest.mark.slow] if name in EXTRA else [group]


def over(pairs):
    """Parametrise by (case, mode)."""
    return pytest.mark.parametrize(
        ("name", "mode"), [pytest.param(*pair, marks=marks(pair[0])) for pair in pairs]
    )


def each_case(names=CASES):
    return pytest.mark.parametrize("name", [pytest.param(n, marks=marks(n)) for n in names])


def test_every_mechanism_has_a_case():
    assert {CASES[name].name for name in CASES.keys() - EXTRA} == set(zoo.names())
    assert set(CASES) >= EXTRA


@over(runs())
def test_equals_its_dense_definition(name, mode):
    args = inputs(CASES[name], LENGTH)
    call = (*args[:4], padding(LENGTH), args[4])
    forms = (compiled(name, mode)(*call), compiled(name, mode, "reference")(*call))
    assert_close(*forms, floor=CASES[name].floor)


@over(runs())
def test_any_length(name, mode):
    """And LENGTH, a prime, in the other tests."""
    case = CASES[name]
    for N in {1, 2, max(1, case.block - 1), case.block, case.block + 1}:
        assert_close(*both(case, mode, *inputs(case, N)[:4], padding(N)))


@over(runs(where=lambda case: able(case, False, 11, 23), causal=(False,)))
def test_cross_lengths(name, mode):
    case = CASES[name]
    for T, S in ((11, 23), (23, 5), (1, 9), (9, 1)):
        assert_close(*both(case, mode, *inputs(case, T, S)[:4], padding(S)))


@over(runs(where=lambda case: able(case, False, 11, 23) and not case.m.shorter, causal=(False,)))
def test_queries_of_another_sequence_do_not_mix_where_it_says_so(name, mode):
    """Gradients too: those of one output in the other queries."""
    case, t = CASES[name], 4
    params, q, k, v, cotangent = inputs(case, 11, 23)
    run = compiled(name, mode)
    everything = padding(23) if case.m.mask else None
    out, _ = run(params, q, k, v, everything, cotangent)
    own = (jnp.arange(11) == t)[:, None, None]
    noise = 9 * jax.random.normal(jax.random.key(5), q.shape)
    other, _ = run(params, jnp.where(own, q, noise), k, v, everything, cotangent)
    _, (_, d_q, _, _) = run(params, q, k, v, everything, jnp.where(own, cotangent, 0))
    apart = np.array_equal(out[:, t], other[:, t]) and not np.where(own, 0, d_q).any()
    assert apart == case.m.by_query


@over(runs(where=lambda case: case.m.mask))
def test_hidden_keys_do_not_matter(name, mode):
    params, q, k, v, cotangent = inputs(CASES[name], LENGTH)
    mask = padding(LENGTH)
    out, (d_params, d_q, d_k, d_v) = compiled(name, mode)(params, q, k, v, mask, cotangent)
    hidden = ~mask[:, :, None, None]
    noise = 1e4 * jax.random.normal(jax.random.key(9), (LENGTH, 1, 1))
    m = CASES[name].m
    # a hidden position's own query still sees only real keys
    own = m.streams == "qkv" and m.shorter is None
    if own:
        k = jnp.where(hidden, noise, k)
    else:
        q, k = jnp.where(hidden, noise, q), jnp.where(hidden, noise, k)
    other, (e_params, e_q, e_k, e_v) = compiled(name, mode)(
        params, q, k, jnp.where(hidden, noise, v), mask, cotangent * 1.0
    )
    real = np.asarray(mask) | own
    if m.shorter is None:
        np.testing.assert_array_equal(np.asarray(out)[real], np.asarray(other)[real])
    else:
        np.testing.assert_array_equal(out, other)
        np.testing.assert_array_equal(jnp.where(hidden, e_q, 0), 0)
    for gradient in (d_k, d_v, e_k, e_v):
        np.testing.assert_array_equal(jnp.where(hidden, gradient, 0), 0)
    if own or m.shorter is not None:
        assert_close(e_params, d_params)
        assert_close(e_q, d_q)


@over(runs(causal=(True,), where=lambda case: not case.m.leaks))
def test_the_future_is_invisible(name, mode):
    params, q, k, v, cotangent = inputs(CASES[name], LENGTH)
    everything = jnp.ones((2, LENGTH), bool)
    run = compiled(name, mode)
    out, _ = run(params, q, k, v, everything, cotangent)
    noise = jax.random.split(jax.random.key(5), 3)
    for t in (1, LENGTH // 2, LENGTH - 1):
        later = (jnp.arange(LENGTH) >= t)[:, None, None]
        changed = [
            jnp.where(later, 9 * jax.random.normal(rng, x.shape), x)
            for rng, x in zip(noise, (q, k, v), strict=True)
        ]
        other, _ = run(params, *changed, everything, cotangent)
        if CASES[name].sorts:
            assert_close(other[:, :t], out[:, :t], 1e-6)
        else:
            np.testing.assert_array_equal(other[:, :t], out[:, :t])
        past = jnp.where(later, 0, cotangent)
        _, (_, *gradients) = run(params, q, k, v, everything, past)
        for gradient in gradients:
            np.testing.assert_array_equal(jnp.where(later, gradient, 0), 0)


@over(runs(where=lambda case: case.m.mask))
def test_no_mask_is_a_mask_of_ones(name, mode):
    """At a length that no chunk divides, and in the state that a prefill leaves."""
    case = CASES[name]
    params, q, k, v, _ = inputs(case, LENGTH)
    everything = jnp.ones((2, LENGTH), bool)

    @functools.partial(jax.jit, static_argnums=0)
    def run(bare, mask):
        given = {"mask": None if bare else mask}
        found = [case.m.apply(params, q, k, v, causal=MODES[mode], **given)]
        if MODES[mode] and case.m.decode is not None:
            state = case.m.decode.init(params, dims(LENGTH), jnp.float32)
            _, state = case.m.decode.prefill(params, state, q, k, v, **given)
            found.append(state)
        return found

    assert_close(run(True, everything), run(False, everything))


@over(runs(where=lambda case: case.m.mask))
def test_a_row_that_sees_nothing_is_zero_with_zero_gradient(name, mode):
    if CASES[name].hparams.get("learned"):
        pytest.skip("its learned tokens are always seen")
    params, q, k, v, cotangent = inputs(CASES[name], LENGTH)
    nothing = jnp.zeros((2, LENGTH), bool)
    out, gradients = compiled(name, mode)(params, q, k, v, nothing, cotangent)
    for x in (out, *jax.tree.leaves(gradients)):
        np.testing.assert_array_equal(x, 0)


@over(runs())
def test_jit_and_vmap_agree(name, mode):
    case = CASES[name]
    params, q, k, v, cotangent = inputs(case, LENGTH)
    mask = padding(LENGTH)
    out, _ = compiled(name, mode)(params, q, k, v, mask, cotangent)

    def one(q, k, v, mask):
        options = {"mask": mask[None] if case.m.mask else None, "causal": MODES[mode]}
        return case.m.apply(params, q[None], k[None], v[None], **options)[0]

    assert_close(jax.jit(jax.vmap(one))(q, k, v, mask), out)


@over(runs())
def test_bfloat16_stays_near_and_keeps_its_dtype(name, mode):
    case = CASES[name]
    params, q, k, v, cotangent = inputs(case, LENGTH, dtype=jnp.bfloat16)
    mask = padding(LENGTH)
    out, _ = compiled(name, mode)(params, q, k, v, mask, cotangent)
    wide = [x.astype(jnp.float32) for x in (q, k, v)]
    exact, _ = compiled(name, mode, "reference")(params, *wide, mask, cotangent)
    assert out.dtype == jnp.bfloat16
    error = np.asarray(out, np.float64) - np.asarray(exact, np.float64)
    assert np.sqrt((error**2).mean()) <= 2e-2 * np.sqrt(np.square(np.asarray(exact)).mean())


@over(runs(causal=(True,), where=lambda case: case.m.decode is not None))
def test_prefill_and_steps_equal_the_parallel_form(name, mode):
    case = CASES[name]
    params, q, k, v, cotangent = inputs(case, LENGTH)
    mask = padding(LENGTH) if case.m.mask else None
    whole, _ = compiled(name, mode)(params, q, k, v, padding(LENGTH), cotangent)
    step, prefill = jax.jit(case.m.decode.step), jax.jit(case.m.decode.prefill)
    for prefix, size in ((0, 7), (9, 1), (16, 7)):
        state = case.m.decode.init(params, dims(LENGTH), jnp.float32)
        outs = []
        spans = [(at, min(at + size, LENGTH)) for at in range(prefix, LENGTH, size)]
        for start, end in ([(0, prefix)] if prefix else []) + spans[: 40 if size > 1 else 12]:
            part = [x[:, start:end] for x in (q, k, v)]
            form = prefill if start == 0 and prefix else step
            out, state = form(
                params, state, *part, mask=None if mask is None else mask[:, start:end]
            )
            outs.append(out)
        outs = jnp.concatenate(outs, 1)
        assert_close(outs, whole[:, : outs.shape[1]], 1e-5)


@each_case([name for name, case in CASES.items() if case.m.causal and not case.m.leaks])
def test_every_causal_mechanism_decodes(name):
    assert CASES[name].m.decode is not None


@each_case([name for name, case in CASES.items() if case.m.decode is not None])
def test_state_bytes_are_those_of_the_state(name):
    m = CASES[name].m
    params = m.init(jax.random.key(0), dims(LENGTH))
    state = m.decode.init(params, dims(LENGTH), jnp.float32)
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert m.cost(dims(LENGTH), causal=True).state_bytes == held


@each_case([name for name, case in CASES.items() if case.m.streams != "qkv"])
def test_arrays_of_other_streams_may_be_none(name):
    m = CASES[name].m
    params, q, k, v, _ = inputs(CASES[name], 9)
    given = {"q": q if "q" in m.streams else None, "k": k if "k" in m.streams else None}
    apply = jax.jit(m.apply)
    assert_close(apply(params, **given, v=v), apply(params, q, k, v))


@each_case()
def test_refusals_name_the_mechanism_and_the_reason(name):
    m = CASES[name].m
    calls = {
        "causal": zoo.objections(m, dims(LENGTH), causal=True),
        "cross": zoo.objections(m, dims(LENGTH, LENGTH + 1)),
        "mask": zoo.objections(m, dims(LENGTH), masked=True),
    }
    for capability, found in calls.items():
        # lengths that differ are none that parameters of one length are for
        assert bool(found) != getattr(m, capability) or (capability == "cross" and m.fixed_length)
        assert all(reason.startswith(f"{m.name}: ") and len(reason) > 30 for reason in found)


@each_case([name for name, case in CASES.items() if able(case, False)])
def test_parameters_learn_and_buffers_do_not(name):
    case = CASES[name]
    params, q, k, v, cotangent = inputs(case, LENGTH)
    _, (gradients, *_) = compiled(name, "bidirectional")(
        params, q, k, v, padding(LENGTH), cotangent
    )
    assert set(case.m.frozen) <= set(params)
    for key, gradient in gradients.items():
        if key not in case.m.frozen:
            assert np.abs(np.asarray(gradient)).max() > 0, key


@each_case([name for name, case in CASES.items() if case.m.refresh is not None])
def test_refresh_moves_buffers_and_hidden_tokens_move_none(name):
    m = CASES[name].m
    params, q, k, *_ = inputs(CASES[name], LENGTH)
    mask = padding(LENGTH)
    noise = jnp.where(mask, 0, 1e4)[..., None, None]
    refresh = jax.jit(m.refresh)
    moved, other = (refresh(jax.random.key(3), params, q + x, k + x, mask=mask) for x in (0, noise))
    assert any((moved[key] != params[key]).any() for key in m.frozen)
    for key in params:
        np.testing.assert_array_equal(moved[key], other[key])
        assert key in m.frozen or (moved[key] == params[key]).all()


def test_a_hyperparameter_of_another_type_is_named():
    with pytest.raises(ValueError, match=r"rfa cannot take sigma='x' \(.*usual is sigma=1.0"):
        zoo.make("rfa", sigma="x")


@each_case()
def test_it_cites_its_source(name):
    assert CASES[name].m.citation
    assert CASES[name].m.formula
    assert CASES[name].m.name == CASES[name].name
