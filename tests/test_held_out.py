"""What advice predicts of committed records: each held out in turn, and other sizes compiled."""

import dataclasses
import functools
import itertools
from pathlib import Path

import pytest

from experiments import advise, calibrate, measure, records
from experiments.analysis import estimates, forecasts, held_out, samples
from experiments.kinds import kernel

pytestmark = pytest.mark.xdist_group("held out")
RESULTS = Path(__file__).parents[1] / "results"


def committed():
    """Every device of the committed records of kernels, with them."""
    found = {}
    for record in records.load(RESULTS):
        if record["config"]["kind"] == "kernel":
            found.setdefault(record["env"]["device"], []).append(record)
    return found


COMMITTED = committed()
# shares of the calls of other sizes that are predicted within the tolerance
SIZES = {"seconds": 0.9, "memory": 0.95}


@pytest.fixture(scope="module", params=sorted(COMMITTED))
def device(request):
    return request.param


@pytest.fixture(scope="module")
def curves(device):
    return samples.curves(COMMITTED[device])


# why curves are not even enough. AMD: 93.8 % of the times and 95.6 % of the bytes are within, of
# configs/scaling.py's alone 95.0 and 97.9, where 12 of the 38 times off are strided's, whose groups
# of heads change between lengths. Intel, of 2026-12-01: 95.6 and 97.5
UNEVEN = {
    "cpu-amd-epyc-2c": "between neighbouring N kernels change what they do at once",
    "cpu-intel-xeon-2c": "misses at N up to 2,048, and where a library changes its path",
}


# of other sizes, within what is said of them; 90 asked. The AMD's are of older kernels
UNSAID = {
    "cpu-amd-epyc-2c": "90.1 % of the times and 89.7 % of the bytes",
    "cpu-intel-xeon-2c": "89.9 % of the times and 89.9 % of the bytes",
}


def fails(reason):
    return pytest.mark.xfail(raises=AssertionError, strict=True, reason=reason)


@pytest.fixture
def evenly(request, device):
    """What asks for even curves: of uneven devices it must fail until the model knows why."""
    if device in UNEVEN:
        request.applymarker(fails(UNEVEN[device]))


# every record but a curve's smallest is held out in turn and predicted from the others: by
# interpolation between its neighbours, the largest by extrapolation
@pytest.mark.parametrize(("what", "share"), [("seconds", 0.975), ("memory", 0.985)])
@pytest.mark.usefixtures("evenly")
def test_held_out_records_are_predicted(curves, what, share):
    tests, bound = held_out.held_out(curves)[what], forecasts.TOLERANCES[what]
    within = [abs(test["ratio"] - 1) <= bound for test in tests]
    assert tests
    assert sum(within) >= share * len(within)


def missed(curves):
    """(points of a curve, the one that the others predict off by more than 30 %, its ratio)."""
    for known in curves.values():
        points = forecasts.times(known)
        for point, ratio in zip(
            points, estimates.held_out(points, estimates.together), strict=True
        ):
            if abs(ratio - 1) > forecasts.TOLERANCES["seconds"]:
                yield points, point, ratio


def test_what_held_out_records_miss_is_said(curves):
    """Next to a record that is predicted off by more than 30 %, advice states as much."""
    for points, point, ratio in missed(curves):
        near = dataclasses.replace(point, size=1.01 * point.size)
        assert estimates.estimate(points, near, estimates.together).error >= abs(ratio - 1)


@pytest.mark.usefixtures("evenly")
def test_few_held_out_records_are_missed(curves):
    assert len(list(missed(curves))) < 0.07 * sum(map(len, curves.values()))


@pytest.fixture(scope="module")
def by_experiment(device):
    """{"scaling", "sizes": curves}; skips where there are none of configs/sizes.py."""
    by = {"scaling": [], "sizes": []}
    for record in COMMITTED[device]:
        by.setdefault(record["config"]["experiment"], []).append(record)
    if not by["sizes"]:
        pytest.skip(f"no records of configs/sizes.py on {device}")
    return {name: samples.curves(by[name]) for name in ("scaling", "sizes")}


def test_the_error_of_other_sizes_is_said(request, device, by_experiment):
    """Of most calls the one that other mechanisms' calls had, each by records of other sizes."""
    if device in UNSAID:
        request.applymarker(fails(UNSAID[device]))
    scaling, sizes = by_experiment["scaling"], by_experiment["sizes"]
    off = {
        name: list(held_out.without_their_sizes(scaling.get(name, []) + calls))
        for name, calls in sizes.items()
    }
    for what in forecasts.TOLERANCES:
        told = []
        for name, of in off.items():
            rest = [one for other, errors in off.items() if other != name for one in errors]
            stated = held_out.of_most(rest)[what]
            told += [error <= stated for kind, error in of if kind == what]
        assert len(told) > 100
        assert sum(told) >= held_out.MOST * len(told)


@pytest.mark.parametrize("what", SIZES)
def test_other_sizes_are_predicted(request, device, by_experiment, what):
    """Other batches, heads and forms by the records of configs/scaling.py alone."""
    if (device, what) != ("cpu-intel-xeon-2c", "memory"):
        reason = "on the AMD 84 % of the times and 94 % of the bytes are within; an Intel's times"
        request.applymarker(fails(reason))
    known = calibrate.Calibration(by_experiment["scaling"], {})
    ratios = {"seconds": [], "memory": []}
    for sample in itertools.chain(*by_experiment["sizes"].values()):
        call = sample.config
        sizes = (call["mechanism"], call["hparams"], kernel.dims(call), call["mode"])
        found = known.predict(*sizes, causal=call["causal"])
        if found.familiar:
            ratios["seconds"].append(found.seconds.value / sample.seconds)
        if found.familiar and sample.memory and sample.compiled:
            curve, _ = known.curve(*sizes, causal=call["causal"])
            carried = functools.partial(forecasts.carried, known.curves[curve], sample.compiled)
            held = forecasts.surest(found.memory, carried).value
            needs = sample.inputs + sample.memory
            ratios["memory"].append((sample.inputs + held) / needs)
    within = [abs(ratio - 1) <= forecasts.TOLERANCES[what] for ratio in ratios[what]]
    assert len(within) > 50
    assert sum(within) >= SIZES[what] * len(within)


CARRIED = {
    "local": {"window": 128},
    "linear": {"feature_map": "elu"},
    "full": {"implementation": "chunked"},
    "linformer": {"slots": 256},
}


@pytest.mark.parametrize("sizes", [{"batch": 4}, {"head_dim": 128, "value_dim": 128}], ids=str)
@pytest.mark.parametrize("mechanism", CARRIED)
def test_memory_is_carried_to_other_sizes(curves, mechanism, sizes):
    """To what the program there compiles to hold; all records are of batch 1 and heads of 64."""
    known = calibrate.Calibration(curves, {})
    point = {"mechanism": mechanism, "hparams": CARRIED[mechanism], "n": 4096, "mode": "forward"}
    point |= {"causal": False, "batch": 1, "heads": 8, "head_dim": 64, "value_dim": 64}
    point |= {"dtype": "float32", "seed": 0}
    call = (mechanism, CARRIED[mechanism], kernel.dims(point), "forward")
    curve, _ = known.curve(*call, causal=False)
    (record,) = (
        s for s in known.curves[curve] if samples.same(s, CARRIED[mechanism], call[2], causal=False)
    )
    held = measure.bytes_of(kernel.trace(point).lower(), None)
    if record.compiled != pytest.approx(held, rel=0.01):
        pytest.skip("the device's record is of a kernel that held something else")
    point |= sizes
    found = advise.forecast(point, known, None)
    lowered = kernel.trace(point).lower()
    needs = found["inputs_bytes"] + measure.bytes_of(lowered, None)
    shapes = {sample.shape for sample in known.curves[curve]}
    recorded = forecasts.shape(kernel.dims(point)) in shapes
    assert found["memory"].how == ("interpolated" if recorded else "other sizes")
    assert found["needs_bytes"] == pytest.approx(needs, rel=forecasts.TOLERANCES["memory"])
