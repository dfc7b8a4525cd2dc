"""The API reference, made of the docstrings: python docs/api.py DIR, or make docs."""

import pkgutil
import sys
from pathlib import Path

import pdoc

import attention_zoo

PACKAGES = ("attention_zoo", "experiments", "configs")


def write(folder: Path) -> None:
    # pdoc does not see what a module hands out on demand
    vars(attention_zoo)["Transformer"] = attention_zoo.Transformer
    # nor modules that __all__ does not name
    attention_zoo.__all__ += [
        module.name for module in pkgutil.iter_modules(attention_zoo.__path__)
    ]
    pdoc.render.configure(docformat="markdown", show_source=True)
    pdoc.pdoc(*PACKAGES, output_directory=folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python docs/api.py DIR: DIR is where index.html is written")
    write(Path(sys.argv[1]))
    print(Path(sys.argv[1], "index.html").resolve())
