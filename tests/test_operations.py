"""What a compiled program's instructions have to do, and what a trace says of their time."""

import jax
import jax.numpy as jnp
import pytest

from attention_zoo import buckets, heads, ops
from benchmarks import operations, profiles
from experiments.measuring import flops, hlo


def read(fn, *args):
    return list(operations.read(jax.jit(fn).lower(*args).compile().as_text()).values())


def of_kind(found, kind):
    return [operation for operation in found if operation.kind == kind]


def test_a_product_in_a_loop_counts_once_a_run():
    rows, matrix = jnp.ones((6, 32, 64)), jnp.ones((64, 128))
    found = read(lambda x, w: jax.lax.map(lambda row: row @ w, x), rows, matrix)
    (product,) = of_kind(found, operations.PRODUCTS)
    assert product.flops == 2 * 32 * 64 * 128
    assert product.bytes >= 4 * (64 * 128 + 32 * 128)


def test_an_exponential_counts_by_number_and_bytes_in_and_out():
    (found,) = read(lambda x: jnp.exp(x * 2), jnp.ones((50, 8)))
    assert (found.kind, found.exponentials, found.bytes) == (operations.EXPONENTIALS, 400, 3200)
    assert found.says == "exp [50x8]"


def test_a_slice_counts_by_what_it_takes():
    def taken(x, n):
        return jax.lax.dynamic_slice_in_dim(x, n, 10, 0)

    (found,) = read(taken, jnp.ones((1000, 4)), 3)[-1:]
    assert found.kind in (operations.COPIES, operations.ARITHMETIC)
    assert 2 * 160 <= found.bytes < 1000


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda x: jnp.sort(x, 1), operations.SORTS),
        (lambda x: jax.lax.top_k(x, 3)[1], operations.SORTS),
        (lambda x: jnp.abs(jnp.fft.rfft(x)), operations.TRANSFORMS),
        (lambda x: x[jnp.array([3, 1, 3])] * 2, operations.GATHERS),
        (lambda x: x.T + 0.0 * x.sum(), operations.ARITHMETIC),
    ],
)
def test_kinds(call, kind):
    assert of_kind(read(call, jnp.ones((16, 16))), kind)


def test_a_program_is_read_by_computation():
    text = jax.jit(lambda x: jax.lax.map(jnp.sin, x)).lower(jnp.ones((5, 3))).compile().as_text()
    bodies, entry = hlo.read(text)
    assert any(x.opcode == "while" for body in bodies.values() for x in body)
    (parameter,) = (x for x in bodies[entry] if x.opcode == "parameter")
    assert (parameter.arrays, parameter.bytes) == ((("f32", (5, 3)),), 60)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the trace of a CPU client")
def test_a_profile_accounts_for_the_time_of_a_call():
    x = jax.random.normal(jax.random.key(0), (512, 512))
    compiled = jax.jit(lambda x: jnp.exp(-jnp.abs(x @ x)) @ x).lower(x).compile()
    compiled(x).block_until_ready()
    found = profiles.of(compiled, (x,))
    spent = sum(found[f"seconds_{kind}"] for kind in operations.KINDS)
    assert found["seconds_products"] > 0
    assert found["seconds_sorts"] == 0
    assert found["least_products"] > 0
    assert found["slowest_seconds"] <= spent
    assert found["slowest_runs"] >= 1


def test_what_is_in_memory_is_the_same_and_stands_apart():
    x = jnp.arange(24.0).reshape(4, 6)

    def sliced(x, n):
        return ops.in_memory(lambda: [x[:, :3] * 2, x[n]], n >= 0)

    found = jax.jit(sliced)(x, 1)
    assert (found[0] == x[:, :3] * 2).all()
    assert (found[1] == x[1]).all()
    text = jax.jit(sliced).lower(x, 1).compile().as_text()
    assert ("conditional(" in text) == (jax.default_backend() == "cpu")


@pytest.mark.parametrize(("n", "numbers", "some"), [(12, 1, 12), (12, 2**14, 4), (7, 2**14, 1)])
def test_turns_divide_and_fit(monkeypatch, n, numbers, some):
    monkeypatch.setattr(heads, "budget", lambda: 2**16)
    assert buckets.at_once(n, numbers) == some
    assert buckets.at_once(n, 10**9) == 1


def test_turns_change_neither_values_nor_gradients():
    arrays = [jax.random.normal(jax.random.key(n), (6, 4, 8)) for n in range(2)]

    def step(last, rows, keys):
        keys = jnp.concatenate([jnp.concatenate([last[None], keys[:-1]]), keys], 1)
        out = jax.nn.softmax(jnp.einsum("mqd,mkd->mqk", rows, keys)) @ keys
        return keys[-1, 4:], (out, out.sum(-1))

    def loss(some):
        return lambda *xs: sum((x**2).sum() for x in buckets.in_turns(step, some, *xs))

    whole, by_two = (jax.jit(jax.value_and_grad(loss(some), (0, 1, 2))) for some in (6, 2))
    arrays = jnp.ones((4, 8)), *arrays
    for a, b in zip(*(jax.tree.leaves(f(*arrays)) for f in (whole, by_two)), strict=True):
        assert jnp.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_chunks_of_a_long_sequence_are_never_all_in_memory():
    N, block = 4096, 64
    q = jnp.ones((N, 8))
    bucket = jnp.zeros((N, 1), jnp.int32)

    def lane(q, bucket):
        near = buckets.last_of_bucket(block)
        return buckets.windows(q, q, q, bucket, buckets=2, block=block, sees=near, scale=1.0)

    largest = flops.largest_array(lane, q, bucket)
    if jax.default_backend() == "cpu":
        assert largest <= max(heads.budget(), N * 8)
    assert largest < buckets.window_pairs(N, block) or jax.default_backend() != "cpu"
