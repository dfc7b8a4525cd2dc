"""A headless Chromium for tests of a page; none on this machine: they are skipped."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable(installed: str) -> str:
    """Of $CHROMIUM, else the first on the path, else the one that Playwright installed."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and Path(installed).is_file():
        return installed
    if found is None:
        names = ", ".join(NAMES)
        pytest.skip(
            f"no browser on this machine: none of {names}, none of Playwright; $CHROMIUM names one"
        )
    return found


@contextlib.contextmanager
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as driver:
        path = executable(driver.chromium.executable_path)
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()
