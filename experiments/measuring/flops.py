"""Count the work of a traced program by walking its jaxpr.

Unlike XLA's own `cost_analysis`, a loop body counts once a trip and a fused kernel
counts in full: scan x length, cond its dearest branch, shard_map x devices, pallas_call x grid.
A multiply-add is 2.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import jax


@dataclasses.dataclass(frozen=True)
class Counts:
    """FLOPs of matrix products, convolutions and Fourier transforms; elements of everything else.

    `unknown_loops`: while loops of unknown trip count, whose body counted once. `uncounted`: names
    of primitives that do an unknown amount of arithmetic (decompositions, foreign calls).
    """

    matmul: int = 0
    conv: int = 0
    fft: int = 0
    elementwise: int = 0
    transcendental: int = 0
    reduction: int = 0
    sort: int = 0
    gather: int = 0
    unknown_loops: int = 0
    uncounted: frozenset[str] = frozenset()

    @property
    def flops(self) -> int:
        return self.matmul + self.conv + self.fft

    @property
    def multiply_adds(self) -> int:
        """Of matrix products and convolutions."""
        return (self.matmul + self.conv) // 2

    def __add__(self, other: "Counts") -> "Counts":
        sums = {name: getattr(self, name) + getattr(other, name) for name in COLUMNS}
        loops = self.unknown_loops + other.unknown_loops
        return Counts(**sums, unknown_loops=loops, uncounted=self.uncounted | other.uncounted)

    def times(self, trips: int) -> "Counts":
        scaled = {name: getattr(self, name) * trips for name in COLUMNS}
        return dataclasses.replace(self, **scaled)


COLUMNS = tuple(f.name for f in dataclasses.fields(Counts))[:-2]


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


TRANSCENDENTAL = _names("""
    acos acosh asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt cos cosh digamma erf
    erf_inv erfc exp exp2 expm1 igamma igammac lgamma log log1p logistic polygamma pow
    regularized_incomplete_beta rsqrt sin sinh sqrt tan tanh zeta
""")
REDUCTION = _names("""
    argmax argmin cumlogsumexp cummax cummin cumprod cumsum reduce reduce_and reduce_max
    reduce_min reduce_or reduce_prod reduce_sum reduce_window reduce_window_max
    reduce_window_min reduce_window_sum reduce_xor
""")
SORT = frozenset({"sort", "top_k", "approx_top_k"})
SCATTER = _names("""
    scatter scatter-add scatter-max scatter-min scatter-mul scatter-sub
""")
MOVEMENT = _names("""
    all_gather all_to_all axis_index bitcast_convert_type broadcast_in_dim concatenate
    convert_element_type copy copy_p create_token device_put dynamic_slice dynamic_update_slice
    empty expand_dims get imag iota layout_constraint mesh_cast num_programs
    optimization_barrier pad pbroadcast ppermute program_id pvary random_unwrap random_wrap real
    reduce_precision reshape reshard rev select_and_gather_add sharding_constraint slice split
    squeeze stop_gradient swap tie transpose unstack
""")
UNCOUNTED = _names("""
    cholesky custom_call custom_linear_solve dot_product_attention_bwd
    dot_product_attention_bwd_wrapper dot_product_attention_fwd dot_product_attention_fwd_wrapper
    eig eigh ffi_call geqrf householder_product
    io_callback lu lu_pivots_to_permutation pure_callback qr ragged_dot_general
    scaled_matmul_wrapper schur svd triangular_solve tridiagonal tridiagonal_solve
""")


def count(fn: Callable, *args, trips: int | Sequence[int] | None = None) -> Counts:
    """The work of `fn(*args)`; arrays may be ShapeDtypeStructs. Nothing runs.

    `trips`: of every while loop, or one number a loop in program order.
    """
    return count_jaxpr(jax.make_jaxpr(fn)(*args), trips=trips)


def count_jaxpr(jaxpr, *, trips: int | Sequence[int] | None = None) -> Counts:
    """The work of a traced program, from `jax.make_jaxpr` or `jax.jit(f).trace(...).jaxpr`."""
    supply = None if trips is None or isinstance(trips, int) else list(trips)

    def next_trip():
        if supply is None:
            return trips
        if not supply:
            raise ValueError(f"trips has {len(trips)} numbers, but there are more while loops")
        return supply.pop(0)

    total = _walk(jaxpr, next_trip)
    if supply:
        raise ValueError(f"trips has {len(trips)} numbers, but {len(supply)} fewer while loops")
    return total


def shapes(fn: Callable, *args) -> Iterator[tuple[int, ...]]:
    """Shapes of every array that `fn(*args)` makes, constants and loop bodies included."""
    return _shapes(jax.make_jaxpr(fn)(*args))


def largest_array(fn: Callable, *args) -> int:
    """Elements of the largest array that `fn(*args)` makes anywhere."""
    return max(map(math.prod, shapes(fn, *args)), default=0)


def has_shape_product(fn: Callable, *args, sizes: tuple[int, int]) -> bool:
    """Whether `fn(*args)` makes an array with axes >= T and >= S, sizes (T, S), or one >= T S."""
    small, large = sorted(sizes)

    def holds(shape):
        longest, second = [*sorted(shape, reverse=True), 0, 0][:2]
        return (longest >= large and second >= small) or longest >= small * large

    return any(map(holds, shapes(fn, *args)))


def _walk(jaxpr, next_trip) -> Counts:
    return sum((_equation(eqn, next_trip) for eqn in _open(jaxpr).eqns), Counts())


def _equation(eqn, next_trip) -> Counts:
    name = eqn.primitive.name
    if name in STRUCTURES:
        return STRUCTURES[name](eqn, lambda jaxpr: _walk(jaxpr, next_trip), next_trip)
    if name in ARITHMETIC:
        return ARITHMETIC[name](eqn)
    if name in REDUCTION:
        return Counts(reduction=_size(eqn.invars[0]))
    if name in SORT:
        return Counts(sort=_size(eqn.invars[0]))
    if name in SCATTER:
        return Counts(gather=_size(eqn.invars[2]))
    if name in MOVEMENT:
        return Counts()
    if name in UNCOUNTED:
        return Counts(uncounted=frozenset({name}))
    inner = list(_inner(eqn))
    if inner:
        return sum((_walk(jaxpr, next_trip) for jaxpr in inner), Counts())
    column = "transcendental" if name in TRANSCENDENTAL else "elementwise"
    return Counts(**{column: sum(map(_size, eqn.outvars))})


def _dot(eqn):
    (contracted, _), _ = eqn.params["dimension_numbers"]
    lhs = eqn.invars[0].aval.shape
    products = _size(eqn.outvars[0]) * math.prod(lhs[axis] for axis in contracted)
    return Counts(matmul=2 * products * _complex_factor(eqn))


def _conv(eqn):
    kernel = eqn.invars[1].aval.shape
    out_features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    # a kernel holds only its group's input features, so groups are already in
    products = _size(eqn.outvars[0]) * (math.prod(kernel) // out_features)
    return Counts(conv=2 * products * _complex_factor(eqn))


def _fft(eqn):
    lengths = eqn.params["fft_lengths"]
    points = math.prod(lengths)
    is_real = any(v.aval.dtype.kind == "f" for v in (*eqn.invars, *eqn.outvars))
    # of a real transform one side has only half the spectrum: count by the other
    transforms = max(map(_size, (*eqn.invars, *eqn.outvars))) // points
    return Counts(fft=round((2.5 if is_real else 5) * points * math.log2(points)) * transforms)


def _gather(eqn):
    return Counts(gather=_size(eqn.outvars[0]))


def _complex_factor(eqn):
    return 4 if all(v.aval.dtype.kind == "c" for v in eqn.invars[:2]) else 1


def _scan(eqn, walk, next_trip):
    return walk(eqn.params["jaxpr"]).times(eqn.params["length"])


def _while(eqn, walk, next_trip):
    trips = next_trip()
    test, body = walk(eqn.params["cond_jaxpr"]), walk(eqn.params["body_jaxpr"])
    if trips is None:
        return test + body + Counts(unknown_loops=1)
    return test.times(trips + 1) + body.times(trips)


def _cond(eqn, walk, next_trip):
    branches = [walk(branch) for branch in eqn.params["branches"]]
    return max(branches, key=lambda c: (c.flops, sum(getattr(c, name) for name in COLUMNS)))


def _shard_map(eqn, walk, next_trip):
    mesh = eqn.params["mesh"]
    manual = eqn.params.get("manual_axes", mesh.axis_names)
    return walk(eqn.params["jaxpr"]).times(math.prod(mesh.shape[axis] for axis in manual))


def _pallas(eqn, walk, next_trip):
    grid = eqn.params["grid_mapping"].grid
    static = [steps for steps in grid if isinstance(steps, int)]
    unknown = Counts(unknown_loops=len(grid) - len(static))
    return walk(eqn.params["jaxpr"]).times(math.prod(static)) + unknown


STRUCTURES = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "shard_map": _shard_map,
    "pallas_call": _pallas,
}
ARITHMETIC = {"dot_general": _dot, "conv_general_dilated": _conv, "fft": _fft, "gather": _gather}


def _shapes(jaxpr):
    opened = _open(jaxpr)
    made = [*opened.constvars, *(v for eqn in opened.eqns for v in eqn.outvars)]
    yield from (v.aval.shape for v in made if hasattr(v.aval, "shape"))
    for eqn in opened.eqns:
        for inner in _inner(eqn):
            yield from _shapes(inner)


def _inner(eqn):
    """The jaxprs among an equation's parameters, lists of them included."""
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(_open(item), "eqns"):
                yield item


def _open(jaxpr):
    """The jaxpr within a closed one, or the thing itself."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def _size(variable):
    return math.prod(getattr(variable.aval, "shape", ()))
