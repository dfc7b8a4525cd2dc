import errno
import gc
import logging
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments.checkpoint import Checkpoints, UnreadableError, remove

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collected():
    """A read that fails leaves coroutines of orbax behind: have them reported here, and ignored."""
    yield
    gc.collect()


def tree(scale):
    return {
        "a": {"w": jnp.arange(5000.0) * scale, "b": jnp.full(7, scale, jnp.bfloat16)},
        "n": (jnp.int32(scale), [jnp.zeros((3, 1))]),
    }


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def write(folder, steps=(3, 6, 9)):
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, tree(step), {"curve": [0.1, step]})


def test_a_fresh_folder_has_nothing_to_restore(tmp_path):
    with Checkpoints(tmp_path / "a" / "b") as checkpoints:
        assert checkpoints.restore(tree(0)) is None


def test_what_was_saved_comes_back_exactly(tmp_path):
    write(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        step, found, notes = checkpoints.restore(tree(0))
    assert (step, notes) == (9, {"curve": [0.1, 9]})
    assert_same(found, tree(9))


def test_only_the_last_two_are_kept(tmp_path):
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "9"]


def test_arrays_may_be_donated_while_they_are_written(tmp_path):
    consume = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf + 1, x), donate_argnums=0)
    state = tree(4)
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 4):
            checkpoints.save(step, state, {})
            state = consume(state)
    with Checkpoints(tmp_path) as checkpoints:
        _, found, _ = checkpoints.restore(tree(0))
    assert_same(found, jax.tree.map(lambda x: x + 2, tree(4)))


def data_file(folder):
    """The largest file of a step: the arrays."""
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )


def flipped(contents, at):
    return contents[:at] + bytes(b ^ 16 for b in contents[at : at + 1]) + contents[at + 1 :]


DAMAGE = {
    "truncated": lambda contents: contents[: len(contents) // 2],
    "empty": lambda contents: b"",
    "flipped": lambda contents: flipped(contents, min(900, len(contents) // 2)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_step_falls_back_to_the_one_before(tmp_path, caplog, damage):
    write(tmp_path)
    for path in (path for path in (tmp_path / "9").rglob("*") if path.is_file()):
        if path.stat().st_size > 1000:
            path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with caplog.at_level(logging.WARNING), Checkpoints(tmp_path) as checkpoints:
        step, found, notes = checkpoints.restore(tree(0))
        # its number is free again
        checkpoints.save(9, tree(9), {})
    assert (step, notes) == (6, {"curve": [0.1, 6]})
    assert_same(found, tree(6))
    (message,) = (record.getMessage() for record in caplog.records if "damaged" in record.msg)
    assert message.startswith(f"checkpoint {tmp_path}/9 is damaged, passed over: ")
    assert len(message) < 300 + len(str(tmp_path))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(tree(0))[0] == 9


def test_arrays_that_are_not_those_saved_are_passed_over(tmp_path, caplog):
    write(tmp_path)
    shutil.rmtree(tmp_path / "9" / "arrays")
    shutil.copytree(tmp_path / "6" / "arrays", tmp_path / "9" / "arrays")
    with caplog.at_level(logging.WARNING), Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(tree(0))[0] == 6
    assert "not those that were saved" in caplog.text


NOTES_DAMAGE = {
    "a digit": lambda text: text.replace("0.1", "0.2"),
    "a name": lambda text: text.replace("checksum", "cheksum"),
    "the end": lambda text: text[:-3],
    "a letter": lambda text: text.replace("curve", "cu\xffrve"),
}


@pytest.mark.parametrize("damage", NOTES_DAMAGE.values(), ids=NOTES_DAMAGE)
def test_damaged_notes_are_passed_over(tmp_path, caplog, damage):
    write(tmp_path)
    path = tmp_path / "9" / "notes" / "metadata"
    path.write_text(damage(path.read_text()), encoding="latin-1")
    with caplog.at_level(logging.WARNING), Checkpoints(tmp_path) as checkpoints:
        step, _, notes = checkpoints.restore(tree(0))
    assert (step, notes) == (6, {"curve": [0.1, 6]})
    assert f"{tmp_path}/9 is damaged" in caplog.text


def test_whichever_file_is_damaged_what_comes_back_is_whole(tmp_path):
    """But of the names and shapes: one that is flipped there could be another model's."""
    write(tmp_path / "whole")
    files = sorted(path for path in (tmp_path / "whole" / "9").rglob("*") if path.is_file())
    assert len(files) > 5
    for number, file in enumerate(files):
        for damage, change in (*DAMAGE.items(), ("gone", None)):
            folder = tmp_path / f"{number}-{damage}"
            shutil.copytree(tmp_path / "whole", folder)
            path = folder / file.relative_to(tmp_path / "whole")
            path.write_bytes(change(path.read_bytes())) if change else path.unlink()
            with Checkpoints(folder) as checkpoints:
                try:
                    step, found, notes = checkpoints.restore(tree(0))
                except UnreadableError:
                    assert (path.name, damage) == ("_METADATA", "flipped")
                    continue
            assert notes == {"curve": [0.1, step]}, folder
            assert_same(found, tree(step))


TRANSIENT = {
    "a file server": OSError(errno.EIO, os.strerror(errno.EIO)),
    "tensorstore": ValueError("UNKNOWN: Error reading local file: Input/output error"),
    "a mount": ValueError("FAILED_PRECONDITION: Error reading local file [os_error_code='16']"),
    "a device": RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
}


@pytest.mark.parametrize("error", TRANSIENT.values(), ids=TRANSIENT)
def test_what_could_not_be_read_is_named_and_left(tmp_path, monkeypatch, error):
    write(tmp_path)
    with Checkpoints(tmp_path) as checkpoints, monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "restore", fail(error))
        with pytest.raises(UnreadableError) as caught:
            checkpoints.restore(tree(0))
    assert f"{tmp_path}/9 could not be read and is left as it is" in str(caught.value)
    # the runner knows a lack of memory by its words
    assert str(error) in str(caught.value)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(tree(0))[0] == 9


def test_a_lack_of_memory_stays_one(tmp_path, monkeypatch):
    write(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(ocp.CheckpointManager, "restore", fail(MemoryError()))
        with pytest.raises(MemoryError):
            checkpoints.restore(tree(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "9"]


def fail(error):
    def restore(*_, **__):
        raise error

    return restore


def test_arrays_of_another_model_are_left(tmp_path):
    write(tmp_path)
    other = tree(0) | {"a": {"w": jnp.zeros(3), "b": jnp.zeros(7, jnp.bfloat16)}}
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UnreadableError, match="9 could not"):
        checkpoints.restore(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "9"]


def test_a_step_that_is_saved_again_is_replaced(tmp_path):
    write(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(9, tree(10), {"curve": []})
        checkpoints.save(9, tree(11), {"curve": [11]})
    with Checkpoints(tmp_path) as checkpoints:
        step, found, notes = checkpoints.restore(tree(0))
    assert (step, notes) == (9, {"curve": [11]})
    assert_same(found, tree(11))


def test_with_all_damaged_a_run_starts_anew(tmp_path):
    write(tmp_path)
    for step in ("6", "9"):
        data_file(tmp_path / step).write_bytes(b"")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(tree(0)) is None


def test_an_unfinished_write_is_no_checkpoint(tmp_path):
    write(tmp_path)
    shutil.copytree(tmp_path / "9", tmp_path / "12.orbax-checkpoint-tmp")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(tree(0))[0] == 9


def test_remove_leaves_nothing(tmp_path):
    write(tmp_path / "run")
    remove(tmp_path / "run")
    remove(tmp_path / "never")
    assert list(tmp_path.iterdir()) == []
