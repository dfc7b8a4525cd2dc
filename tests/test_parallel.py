"""Sequence parallelism: equal to one device in value and gradient, and as many bytes as said."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

import attention_zoo as zoo
from attention_zoo import parallel, tiles
from attention_zoo.parallel import blocks
from experiments.kinds import kernel, sharding
from experiments.measuring import communication
from tests.cases import CASES, EXTRA, MODES, SIZES, Case, assert_close, inputs

P, N = 4, 64
# what bites at the edges of shards of 16
EDGES = {
    "local-wide": Case("local", {"window": (21, 35)}),
    "local-huge": Case("local", {"window": 640}),
    "strided-wide": Case("strided", {"stride": 21, "window": 18}),
    "strided-few": Case("strided", {"stride": 2}),
    "global-wide": Case("global", {"tokens": 19, "window": 17}),
    "global-across": Case("global", {"tokens": (0, 15, 16, 40, 63), "learned": 2}),
    "bigbird-edges": Case("bigbird", {"block": 8, "global_blocks": (3, 1), "window": 2}),
    "bigbird-plain": Case("bigbird", {"block": 8, "global_blocks": 0, "random_blocks": 0}),
    "compressed-wide": Case("compressed", {"stride": 21, "window": 20}),
    "linear-eps": Case("performer", {"features": 20, "sum_eps": 1e-2}),
    "linear-row": Case("efficient", {"normaliser": "row", "scaled": True}),
    # of 5 modes of 64 positions one device too is 2e-5 from float64, for the scores grow with both
    "fourier_enhanced-cross": Case(
        "fourier_enhanced", {"modes": 2, "kind": "cross", "activation": "softmax"}
    ),
    "nystrom-wide": Case("nystrom", {"landmarks": 50, "conv": 41}),
}
# parameters as long as the sequence, so that they are split as it is
RESIZED = {
    name: dataclasses.replace(case, hparams=case.hparams | {"length": N})
    for name, case in CASES.items()
    if "length" in case.hparams
}
ALL = CASES | RESIZED | EDGES
# tried in full by `make test-all`, as those of EXTRA: what shares nearly all of another's path
OTHERS = {"full-chunked", "full-general", "local-0", "global-learned", "linear-relu2"}
OTHERS |= {"fourier-fft", "synthesizer-random", "query_reduction-strided", "compressed", "global"}
# in one mode only
ONCE = {"mixed", "lsh", "routing", "sinkhorn", "synthesizer", "probsparse"}


def dims(length=N):
    return zoo.Dims(q_len=length, kv_len=length, **SIZES)


def runs():
    """Every call that is not refused: with a mask in one mode, without in the other, and the rest
    by `make test-all`."""
    for name, case in ALL.items():
        for (mode, causal), masked in itertools.product(MODES.items(), (True, False)):
            if objections(case.m, causal=causal, masked=masked):
                continue
            slow = name in EXTRA | OTHERS | EDGES.keys() or masked == causal
            slow |= name in ONCE and causal
            marks = [pytest.mark.xdist_group(f"parallel-{name}")]
            marks += [pytest.mark.slow] if slow else []
            word = "masked" if masked else "unmasked"
            yield pytest.param(name, mode, masked, marks=marks, id=f"{name}-{mode}-{word}")


def objections(m, devices=P, length=N, **call):
    return parallel.objections(m, dims(length), devices, **call)


def hidden():
    """[2, N]: one sequence hides its first shard and more, the other its last shard and more."""
    at = jnp.arange(N)
    return jnp.stack([at > N // P + 3, at < N - N // P - 5])


@functools.cache
def results(name, mode, masked, devices=P):
    """((out, gradients) of one device, the same of P devices, bytes sent by each of them)."""
    case, causal = ALL[name], MODES[mode]
    m = case.m
    params, q, k, v, cotangent = inputs(case, N)
    mask = hidden() if masked else None
    arrays = dict(zip("qkv", (q, k, v), strict=True))
    inputs_ = {letter: arrays[letter] for letter in kernel.READS[m.streams]}
    mesh = sharding.mesh_of(devices)
    args = sharding.place(m, mesh, params, inputs_, mask, cotangent)
    many = jax.jit(sharding.program(m, mesh, causal=causal)).lower(*args).compile()
    alone = sharding.mesh_of(1)
    one = jax.jit(sharding.call(m.apply, causal=causal))
    one = one(*sharding.place(m, alone, params, inputs_, mask, cotangent))
    return one, many(*args), communication.bytes_sent(many.as_text(), devices)


@pytest.mark.parametrize(("name", "mode", "masked"), list(runs()))
def test_equals_one_device(name, mode, masked):
    one, many, _ = results(name, mode, masked)
    assert_close(many, one, floor=ALL[name].floor)


@pytest.mark.parametrize(("name", "mode", "masked"), list(runs()))
def test_bytes_sent_are_the_formula(name, mode, masked):
    m = ALL[name].m
    found = results(name, mode, masked)[2]
    said = parallel.bytes_sent(m, dims(), P, causal=MODES[mode], masked=masked)
    assert sum(found.values()) == pytest.approx(said.forward + said.backward, abs=2), found


@pytest.mark.xdist_group("parallel-bigbird")
def test_blocks_that_moved_are_attended_in_turns(monkeypatch):
    monkeypatch.setattr(blocks, "ROWS", 2)
    one, many, found = results.__wrapped__("bigbird", "causal", True)
    assert_close(many, one, floor=ALL["bigbird"].floor)
    assert found == results("bigbird", "causal", True)[2]


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("name", sorted(CASES.keys() - EXTRA - OTHERS | EDGES.keys()))
def test_any_number_of_devices(name, devices):
    m, causal = ALL[name].m, ALL[name].m.causal
    if objections(m, devices, causal=causal, masked=True):
        pytest.skip("refused, see test_what_cannot_be_split_is_refused")
    mode = "causal" if causal else "bidirectional"
    one, many, found = results(name, mode, True, devices)
    assert_close(many, one, floor=ALL[name].floor)
    said = parallel.bytes_sent(m, dims(), devices, causal=causal, masked=True)
    assert sum(found.values()) == pytest.approx(said.forward + said.backward, abs=2), found


def test_every_mechanism_but_one_can_be_split():
    # a recurrent network's states wait for one another
    for name in set(zoo.names()) - {"recurrent"}:
        m = zoo.make(name)
        sizes = zoo.Dims(q_len=4096, kv_len=4096, heads=8)
        assert not parallel.objections(m, sizes, 8, causal=m.causal, masked=m.mask), name


REFUSED = {
    "length": ("full", {}, {"length": 66}, "q_len=66 must be a multiple of the 4 devices; pad it"),
    "heads": ("lsh", {}, {"devices": 8}, "share the 4 heads evenly (got 8)"),
    "blocks": ("bigbird", {"block": 7}, {}, "block=7 must divide the 16 positions"),
    "outputs": ("query_reduction", {"kind": "strided", "stride": 3}, {}, "stride=3 must divide"),
    "channels": ("fourier", {}, {"devices": 32}, "40 channels have 21 (got 32 devices)"),
    "no form": ("performer", {"feature_eps": 1e-4}, {}, "a maximum over the keys of all devices"),
    "batch": ("nystrom", {"batch_wide": True}, {}, "maxima over a batch"),
    "turns": ("recurrent", {}, {}, "devices would take turns"),
    "parts": ("mixed", {"parts": (("full", {}), ("lsh", {}))}, {}, "cannot be mixed"),
    "causal": ("linformer", {}, {"causal": True}, "no causal form"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_split_is_refused(what):
    name, hparams, call, reason = REFUSED[what]
    found = objections(zoo.make(name, **hparams), **call)
    assert len(found) == 1
    assert reason in found[0]


def test_an_axis_that_does_not_exist_is_named():
    x = jnp.zeros((2, N, 4, 8))
    with pytest.raises(ValueError, match="no axis 'sequences'; it has sequence"):
        parallel.apply(zoo.make("local"), {}, x, x, x, mesh=sharding.mesh_of(P), axis="sequences")
    with pytest.raises(ValueError, match="batch=2 must be a multiple of the 4 devices"):
        parallel.apply(
            zoo.make("local"), {}, x, x, x, mesh=sharding.mesh_of(4), batch_axis="sequence"
        )


@pytest.mark.parametrize("name", ["full", "performer"])
def test_batch_and_positions_split_over_two_axes(name):
    """And a third axis left to jit."""
    m = CASES[name].m
    params, q, k, v, _ = inputs(CASES[name], N)
    names = ("data", "sequence", "model")
    mesh = jax.make_mesh((2, 2, 2), names, axis_types=(AxisType.Auto,) * 3)
    call = {"mesh": mesh, "batch_axis": "data", "causal": True, "mask": hidden()}
    out = jax.jit(lambda *args: parallel.apply(m, *args, **call))(params, q, k, v)
    assert out.sharding.spec[:2] == ("data", "sequence")
    one = jax.jit(lambda *args: m.apply(*args, mask=hidden(), causal=True))(params, q, k, v)
    assert_close(out, one)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RESIZED))
def test_parameters_longer_than_the_sequence(name):
    m = CASES[name].m
    params, q, k, v, _ = inputs(CASES[name], N)
    out = jax.jit(parallel.over(m, sharding.mesh_of(P)).apply)(params, q, k, v)
    assert_close(out, jax.jit(m.apply)(params, q, k, v))


@pytest.mark.parametrize(
    "name", ["linear", "performer", pytest.param("full", marks=pytest.mark.slow)]
)
def test_states_are_float32_whatever_the_arrays_are(name):
    """A shard's rounding is that of one device: prefixes are not summed in bfloat16."""
    m = CASES[name].m
    params, *arrays, _ = inputs(CASES[name], N)
    arrays = [x.astype(jnp.bfloat16) for x in arrays]
    many = jax.jit(functools.partial(parallel.over(m, sharding.mesh_of(P)).apply, causal=True))
    one = jax.jit(functools.partial(m.apply, causal=True))
    exact = one(params, *(x.astype(jnp.float32) for x in arrays))
    errors = [jnp.abs(form(params, *arrays) - exact).max() for form in (many, one)]
    assert errors[0] <= 1.5 * errors[1]


@pytest.mark.parametrize(
    "name",
    ["full", *(pytest.param(n, marks=pytest.mark.slow) for n in ("bigbird", "strided-window"))],
)
def test_an_accelerators_kernels_are_split_alike(name, monkeypatch):
    monkeypatch.setattr(tiles, "KERNELS", {})
    one, many, _ = results.__wrapped__(name, "causal", True)
    assert_close(many, one)


def test_a_prefix_without_keys_has_no_peak():
    """It would drown keys that are all far below 0."""
    m = CASES["efficient"].m
    params, q, k, v, _ = inputs(CASES["efficient"], N)
    k, call = k - 300, {"causal": True, "mask": hidden()}
    out = jax.jit(functools.partial(parallel.over(m, sharding.mesh_of(P)).apply, **call))
    assert_close(out(params, q, k, v), jax.jit(functools.partial(m.apply, **call))(params, q, k, v))


def test_a_ring_holds_two_shards_however_many_devices():
    """Neither pass keeps what has come by."""

    def held(devices):
        x = jax.ShapeDtypeStruct((1, 128 * devices, 1, 64), jnp.float32)
        m = parallel.over(zoo.make("full", block=128, key_block=128), sharding.mesh_of(devices))
        loss = jax.jit(jax.grad(lambda *args: m.apply({}, *args).sum(), (0, 1, 2)))
        return loss.lower(x, x, x).compile().memory_analysis().temp_size_in_bytes

    assert held(8) < 1.2 * held(2)
