"""Multivariate series of public data sets, and their published splits."""

import functools
import gzip
import io
import zipfile

import numpy as np

from experiments.tasks import data

# (data set, file, columns that are no channel)
FILES = {
    "ETTh1": ("ett", "ETTh1.csv"),
    "ETTh2": ("ett", "ETTh2.csv"),
    "ETTm1": ("ett", "ETTm1.zip"),
    "ETTm2": ("ett", "ETTm2.zip"),
    "weather": ("weather", "weather.zip"),
    "exchange_rate": ("exchange_rate", "exchange_rate.txt.gz"),
    "illness": ("illness", "national_illness.csv"),
}
# rows of a period: a day, a day, ..., a week of days, a year of weeks
PERIODS = {
    **{"ETTh1": 24, "ETTh2": 24, "ETTm1": 96, "ETTm2": 96},
    **{"weather": 144, "exchange_rate": 7, "illness": 52},
}
# rows of 12, 4 and 4 months of 30 days; elsewhere 70 % train and the last 20 % test
MONTHS = {"ETTh1": 24, "ETTh2": 24, "ETTm1": 96, "ETTm2": 96}


@functools.lru_cache(2)
def read(name: str) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    """([rows, channels] float64, z-scored by the training rows; the rows of each split)."""
    if name not in FILES:
        raise ValueError(f"series must be one of {', '.join(FILES)}, got {name!r}")
    values = _numbers(*FILES[name])
    splits = borders(name, len(values))
    train = values[slice(*splits["train"])]
    return (values - train.mean(0)) / train.std(0), splits


def borders(name: str, rows: int) -> dict[str, tuple[int, int]]:
    if name in MONTHS:
        month = 30 * MONTHS[name]
        ends = (12 * month, 16 * month, 20 * month)
    else:
        ends = (int(rows * 0.7), rows - int(rows * 0.2), rows)
    return {"train": (0, ends[0]), "val": ends[:2], "test": ends[1:]}


def _numbers(dataset, file):
    contents = data.read(dataset, file)
    if file.endswith(".gz"):
        contents = gzip.decompress(contents)
    if file.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".txt")]
            contents = archive.read(names[0])
    lines = contents.decode("ascii").split()
    dated = file.endswith(".csv")
    if dated:
        lines = contents.decode("utf-8").splitlines()[1:]
    rows = [line.split(",")[dated:] for line in lines if line.strip()]
    return np.array(rows, np.float64)
