"""The README's pictures are those of the committed records."""

import io

import numpy as np
import pytest
from PIL import Image

from experiments import gallery
from experiments.analysis import reading

pytestmark = pytest.mark.xdist_group("gallery")


@pytest.fixture(scope="module")
def found():
    return gallery.pictures(reading.read([gallery.ROOT / "results"]))


def test_the_readme_s_gallery_is_that_of_now(found):
    readme = gallery.README.read_text()
    assert readme == gallery.rewritten(readme, found), "run python -m experiments.gallery"
    assert [of.name for of in found] == ["scaling", "reordering", "accuracy", "bubbles"]


def test_pictures_are_those_of_the_records(found):
    for picture in found:
        kept = Image.open(gallery.FOLDER / f"{picture.name}.png").convert("L")
        drawn = Image.open(io.BytesIO(picture.drawing.save("png"))).convert("L")
        assert kept.size == drawn.size, "run python -m experiments.gallery"
        apart = np.abs(np.asarray(kept, float) - np.asarray(drawn, float))
        # fonts may be hinted a little differently elsewhere
        assert (apart > 64).mean() < 1e-3, picture.name
