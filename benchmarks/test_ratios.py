"""Every mechanism's time over its yardstick's: forward, causal, forward and backward together.

`make bench` runs it and writes records and a table; nothing here fails for being slow.
"""

import pytest

import attention_zoo as zoo
from benchmarks import ratios, yardsticks
from experiments import records


def calls():
    for label, variant in yardsticks.variants(1024).items():
        m = zoo.make(variant["mechanism"], **variant["hparams"])
        yield from ((label, mode) for mode in yardsticks.MODES if m.causal or mode != "causal")


@pytest.mark.parametrize(("label", "mode"), list(calls()))
def test_ratio(label, mode, benchmark, request, store):
    folder, env = store
    options = request.config.option
    point = ratios.point(label, mode, options.length, options.rounds)
    metrics = ratios.run(point, benchmark)
    folder.write(records.make(point, "ok", metrics=metrics, env=env))
