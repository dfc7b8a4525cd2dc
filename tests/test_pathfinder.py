import math

import numpy as np
import pytest

from experiments import tasks
from experiments.tasks import dashes, pathfinder, snakes

HARD = (32, 14, 1, False)
COUNT = 1200


def generator(key=0):
    return np.random.Generator(np.random.Philox(key=key))


@pytest.fixture(scope="module")
def drawn():
    """The images of "32, hard" and their labels."""
    return pathfinder.painter(*HARD).images(generator(), COUNT)


@pytest.fixture(scope="module")
def grown():
    """The targets and distractors in the images of `drawn`."""
    return pathfinder.painter(*HARD).scene(generator(), COUNT)


def within_chance(a, b):
    """Whether the means of two samples differ by at most three standard errors."""
    error = math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return abs(a.mean() - b.mean()) <= 3 * error


def pixels(painter, places):
    """[..., 2]: y and x of places on the canvas."""
    rim, width = painter.field.rim, painter.field.width
    return np.stack([places // width - rim, places % width - rim], -1)


def painted(painter, found, ink):
    canvas = np.zeros(len(found.places) * painter.field.area, np.uint8)
    painter.paint(canvas, found, ink)
    return painter.crop(canvas)


def test_a_batch_is_a_function_of_seed_and_step():
    task = tasks.make("pathfinder", 1024)
    first = task.batch(3, 7, 6)
    for field, array in task.batch(3, 7, 6).items():
        assert np.array_equal(array, first[field])
    for other in (task.batch(4, 7, 6), task.batch(3, 8, 6), task.batch(7, 3, 6)):
        assert not np.array_equal(other["inputs"], first["inputs"])


def test_a_batch_is_tokens_that_are_all_real():
    batch = tasks.make("pathfinder", 1024).batch(0, 0, 5)
    assert batch["inputs"].shape == batch["mask"].shape == (5, 1024)
    assert batch["inputs"].dtype == np.int32
    assert batch["mask"].all()
    assert batch["weights"].all()
    assert 0 <= batch["inputs"].min() < batch["inputs"].max() <= 255


def test_brightness_may_be_a_number():
    tokens, numbers = (
        tasks.make("pathfinder", 1024, continuous=flag).batch(0, 0, 3)["inputs"]
        for flag in (False, True)
    )
    np.testing.assert_allclose(numbers[..., 0], tokens / 255, rtol=1e-6)


def test_held_out_images_are_fixed_and_each_comes_once():
    few, more = (tasks.make("pathfinder", 1024, eval_examples=count) for count in (10, 13))
    splits = {}
    for split in ("val", "test"):
        batches = list(more.held_out(split, 6))
        assert [batch["weights"].sum() for batch in batches] == [6, 6, 1]
        assert all(batch["inputs"].shape == (6, 1024) for batch in batches)
        splits[split] = np.concatenate([b["inputs"][b["weights"]] for b in batches])
        assert len(np.unique(splits[split], axis=0)) == 13
        first = np.concatenate([b["inputs"][b["weights"]] for b in few.held_out(split, 6)])
        assert np.array_equal(first, splits[split][:10])
    assert not (splits["val"][:, None] == splits["test"]).all(-1).any()


def test_a_number_of_images_comes_once_an_epoch():
    task = tasks.make("pathfinder", 1024, train_examples=12)
    first, second = (
        np.concatenate([task.batch(3, step, 6)["inputs"] for step in steps])
        for steps in ((0, 1), (2, 3))
    )
    assert len(np.unique(first, axis=0)) == 12
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.unique(first, axis=0), np.unique(second, axis=0))
    held = [batch["inputs"] for split in ("val", "test") for batch in task.held_out(split, 500)]
    assert len(np.unique(np.concatenate([first, *held]), axis=0)) == 12 + sum(map(len, held))
    assert task.facts["train_examples"] == 12
    assert "train_examples" not in tasks.make("pathfinder", 1024).facts


def test_two_thirds_of_the_pixels_are_black(drawn):
    images, _ = drawn
    assert (images == 0).mean() == pytest.approx(2 / 3, abs=0.05)
    assert images.max() == 255


def test_labels_are_balanced(drawn):
    _, labels = drawn
    assert abs(labels.mean() - 0.5) <= 3 * 0.5 / math.sqrt(len(labels))


def test_brightness_does_not_tell_the_label(drawn):
    images, labels = drawn
    for measure in (images.mean(1), images.std(1), (images > 0).mean(1)):
        assert within_chance(measure[labels == 0], measure[labels == 1])


def test_discs_are_at_the_ends_of_one_snake_or_of_two(drawn, grown):
    images, labels = drawn
    painter = pathfinder.painter(*HARD)
    field = painter.field
    offsets, values = painter.disc
    canvas = np.zeros((COUNT, field.width, field.width), np.uint8)
    inner = slice(field.rim, field.rim + field.size)
    canvas[:, inner, inner] = images.reshape(COUNT, field.size, field.size)
    # snakes by ends: tail, head
    ends = grown[0].places[..., [0, -1]]
    at = np.arange(COUNT)[:, None, None] * field.area + ends
    solid = values[0] >= values.max() / 2
    around = at[..., None] + offsets[0][solid]
    lit = (canvas.ravel()[around] >= values[0][solid]).all(-1)
    one = (lit[:, :, 0] & lit[:, :, 1]).any(1)
    two = (lit[:, :, 0] & lit[:, ::-1, 1]).any(1)
    assert np.where(labels == 1, one, two).all()
    # where discs hide no third end, they are on nothing else
    plain = lit.sum((1, 2)) == 2
    assert plain.mean() > 0.9
    assert np.array_equal(one[plain], labels[plain] == 1)


def test_targets_are_as_bright_as_distractors(grown):
    painter = pathfinder.painter(*HARD)
    targets, others = (painted(painter, found, painter.dash) for found in grown)
    assert painter.bright[1] is not painter.dash[1]
    np.testing.assert_array_equal(painter.bright[1], painter.dash[1])
    assert targets.max() == others.max()
    assert targets[targets > 0].mean() == pytest.approx(others[others > 0].mean(), rel=0.03)


def test_published_distractors_are_a_third_brighter():
    painter = pathfinder.painter(*HARD[:3], True)
    ratio = painter.bright[1].max() / painter.dash[1].max()
    assert ratio == pytest.approx(4 / 3, rel=0.01)


def test_snakes_begin_where_they_should(grown):
    tails = pixels(pathfinder.painter(*HARD), grown[0].places[..., 0])
    assert ((tails[:, 0] >= 14) & (tails[:, 0] < 18)).all()
    apart = np.linalg.norm(tails[:, 0] - tails[:, 1], axis=-1)
    assert np.abs(apart - 7).max() <= math.sqrt(0.5)


@pytest.mark.parametrize("kind", [HARD, (64, 9, 1, False), (128, 6, 3, False)])
def test_snakes_grow_by_the_rules(kind):
    painter = pathfinder.painter(*kind)
    size, margin = painter.size, kind[2]
    targets, distractors = painter.scene(generator(1), 20)
    assert targets.places.shape == (20, 2, kind[1])
    assert distractors.places.shape == (20, size.distractors, kind[1] // 3)
    points = dashes.circle(size.length + margin)
    angles = dashes.directions(points)
    for found in (targets, distractors):
        here = found.directions[..., 0] >= 0
        places, directions = found.places[here], found.directions[here]
        assert (directions[:, 0] < dashes.DEGREES).all()
        assert (directions[:, 1:] >= dashes.DEGREES).all()
        heads = pixels(painter, places)
        assert heads.min() >= size.padding
        assert heads.max() < kind[0] - size.padding
        steps = np.linalg.norm(np.diff(heads[:, 1:], axis=1), axis=-1)
        assert (np.abs(steps - size.length - 2 * margin) <= 3).all()
        turns = np.abs(np.diff(angles[directions], axis=1))
        turns = np.minimum(turns, 2 * np.pi - turns)
        assert (turns < np.pi / 2 / size.continuity + 1e-6).all()


@pytest.mark.parametrize("kind", [HARD, (64, 9, 1, False), (128, 6, 3, False)])
def test_dashes_end_at_their_heads(kind):
    painter = pathfinder.painter(*kind)
    angles = dashes.directions(dashes.circle(painter.size.length + kind[2]))
    pictures = painter.field.pictures.astype(float)
    steps = np.arange(pictures.shape[1]) - pictures.shape[1] // 2
    mass = pictures.sum((1, 2))
    middles = np.stack([np.einsum("pyx,y->p", pictures, steps), pictures.sum(1) @ steps], -1)
    along = (middles / mass[:, None] * dashes.displacements(1, angles)).sum(-1)
    half = np.full(len(angles), painter.size.length / 2)
    half[dashes.DEGREES :] *= -1
    np.testing.assert_allclose(along, half, atol=0.8)


@pytest.mark.parametrize("kind", [HARD, (64, 9, 1, False)])
def test_dashes_of_different_snakes_do_not_collide(kind):
    painter = pathfinder.painter(*kind)
    field = painter.field
    for targets, distractors in [painter.scene(generator(key), 6) for key in range(2)]:
        for image in range(6):
            masks = []
            for found in (targets, distractors):
                for places, directions in zip(
                    found.places[image], found.directions[image], strict=True
                ):
                    if directions[0] >= 0:
                        snake = np.zeros(field.area, int)
                        for place, direction in zip(places, directions, strict=True):
                            at = place + field.mask[direction]
                            snake[at] = np.maximum(snake[at], field.mask_values[direction])
                        masks.append(snake)
            assert len(masks) > 2
            for i, first in enumerate(masks):
                for second in masks[i + 1 :]:
                    assert (first + second).max() < snakes.COLLISION


@pytest.mark.parametrize("difficulty", pathfinder.CONTOURS)
@pytest.mark.parametrize("side", pathfinder.SIZES)
def test_every_size_can_be_drawn(side, difficulty):
    batch = tasks.make("pathfinder", side**2, difficulty=difficulty).batch(0, 0, 2)
    assert batch["inputs"].shape == (2, side**2)
    assert 0 < (batch["inputs"] > 0).mean() < 0.5


@pytest.mark.parametrize(
    ("n", "args", "message"),
    [
        (1000, {}, "n must be one of 1024, 4096, 16384, 65536, got 1000"),
        (1024, {"difficulty": "harder"}, "difficulty must be one of easy, intermediate, hard"),
        (1024, {"eval_examples": 0}, "eval_examples must be a whole number from 1 up, got 0"),
        (1024, {"train_examples": 0}, "train_examples must be a whole number from 1 up, got 0"),
    ],
)
def test_bad_arguments_say_what_would_work(n, args, message):
    with pytest.raises(ValueError, match=message):
        tasks.make("pathfinder", n, **args)


def test_oracles_are_at_chance():
    rows = tasks.make("pathfinder", 1024, eval_examples=500).oracles()
    assert rows["chance_accuracy"] == 0.5
    assert rows["majority_accuracy"] == pytest.approx(0.5, abs=0.08)


@pytest.mark.slow
def test_ten_thousand_images_hold_the_statistics():
    images, labels = pathfinder.painter(*HARD).images(generator(5), 10_000)
    assert (images == 0).mean() == pytest.approx(2 / 3, abs=0.05)
    assert abs(labels.mean() - 0.5) <= 3 * 0.5 / math.sqrt(len(labels))
    assert within_chance(images[labels == 0].mean(1), images[labels == 1].mean(1))
