"""Config files: find, load, override, and turn into points that are known to be sound.

A config file has `get_config() -> ConfigDict` and `get_sweep(config) -> list of points`. One with
choices takes one of them, as ml_collections has it: `path.py:small` is `get_config("small")`.
Everything wrong is a ValueError of one line, before anything is measured.
"""

import ast
import difflib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

import attention_zoo as zoo
from experiments.measuring.environment import ROOT
from experiments.running.worker import kind_module
from experiments.tasks import data

FOLDER = ROOT / "configs"
# below this key overrides may add entries: hyperparameters are checked by the mechanism they go to
OPEN = "variants"


def available() -> dict[str, str]:
    """The first docstring line of every config file, by path."""
    found = {}
    for path in sorted(FOLDER.rglob("*.py")):
        source = ast.parse(path.read_text())
        if any(_defines(item, "get_sweep") for item in source.body):
            name = path.relative_to(FOLDER.parent).as_posix()
            found[name] = (ast.get_docstring(source) or "").split("\n")[0]
    return found


def _defines(item, name):
    """Whether a statement of a module is this function, or gives it another's."""
    if isinstance(item, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == name for target in item.targets)
    return isinstance(item, ast.FunctionDef) and item.name == name


def load(path: str) -> tuple[ModuleType, ConfigDict]:
    """The module of a config file, given as its path or bare name and `:choice`, and its config."""
    path, colon, choice = path.partition(":")
    module = _module(path)
    takes = inspect.signature(module.get_config).parameters
    if colon and not takes:
        raise ValueError(f"{path} takes no choice, got {choice!r}")
    return module, module.get_config(*([choice] if colon else []))


def _module(path):
    file = next((f for f in (Path(path), FOLDER / f"{path}.py") if f.is_file()), None)
    if file is None:
        raise ValueError(f"no config file {path!r}{_nearest(path, available())}")
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    if spec is None:
        raise ValueError(f"a config is a .py file, got {path!r}")
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} does not load: {type(error).__name__}: {error}") from error
    for name in ("get_config", "get_sweep"):
        if not callable(getattr(module, name, None)):
            raise ValueError(f"{path} has no {name}()")
    return module


def override(config: ConfigDict, assignments: Iterable[tuple[str, str]]) -> None:
    """Set dotted keys to values as typed on a command line, each of the type it replaces."""
    for dotted, text in assignments:
        *parents, last = dotted.split(".")
        node, is_open = config, False
        for key in parents:
            is_open = is_open or key == OPEN
            if is_open and key not in node:
                node[key] = ConfigDict()
            if not isinstance(node.get(key), ConfigDict):
                raise ValueError(f"no config key {dotted!r}{_nearest(key, node)}")
            node = node[key]
        if last in node and isinstance(node[last], ConfigDict):
            raise ValueError(f"config.{dotted} is a group: set one of {', '.join(node[last])}")
        if last in node:
            value = _like(node[last], text, dotted)
            with node.ignore_type():
                node[last] = value
        elif is_open:
            node[last] = literal(text)
        else:
            raise ValueError(f"no config key {dotted!r}{_nearest(last, node)}")


def points(module: ModuleType, config: ConfigDict, *, checked: bool = True) -> list[dict]:
    """The sweep's points as plain JSON, each once, after those that it requires.

    Not `checked` they are told fast, and also where they cannot run.
    """
    unique = {}

    def add(point):
        key = json.dumps(point, sort_keys=True)
        if key not in unique:
            if checked:
                _check(point, config)
            for other in required(point):
                add(other)
            unique[key] = point

    for listed in module.get_sweep(config):
        add(json.loads(json.dumps(_plain(listed))))
    if not unique:
        raise ValueError("the config makes no points")
    return list(unique.values())


def _check(point, config):
    """`check`, whose error for a mechanism that is none tells the config's variants too."""
    try:
        check(point)
    except ValueError as error:
        name, variants = point.get("mechanism"), config.get("variants")
        if variants and isinstance(name, str) and name not in zoo.names():
            raise ValueError(f"{error}; variants of this config: {', '.join(variants)}") from error
        raise


def required(point: dict) -> list[dict]:
    """The points whose records this one reads."""
    module = kind_module(point.get("kind"))
    return module.requires(point) if hasattr(module, "requires") else []


def check(point: dict) -> None:
    """ValueError unless the point can be given to its kind."""
    where = f"{point.get('label', point.get('kind'))!r}"
    try:
        n = point.get("n")
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise ValueError(f"n must be a whole number from 1 up, got {n!r}")
        for name, hparams in _mechanisms(point):
            zoo.make(name, **{key: hashable(value) for key, value in hparams.items()})
        model = point.get("model", {})
        width, heads = model.get("width"), model.get("heads")
        if width and heads and width % heads:
            raise ValueError(f"heads={heads} must divide width={width}")
        module = kind_module(point.get("kind"))
        if hasattr(module, "check_point"):
            module.check_point(point)
    except data.AbsentError:
        # a row of the results says so
        return
    except (ValueError, TypeError) as error:
        raise ValueError(f"point {where}: {error}") from error
    except KeyError as error:
        raise ValueError(f"point {where} lacks {error}") from error


def hashable(value: Any) -> Any:
    """Lists, which JSON makes of tuples, as tuples again."""
    return tuple(map(hashable, value)) if isinstance(value, list) else value


def _mechanisms(point):
    """(name, hparams) of every mechanism that a point names, or of every layer's."""
    names = point.get("mechanism", [])
    names = [names] if isinstance(names, str) else names
    hparams = point.get("hparams", {})
    hparams = [hparams] * len(names) if isinstance(hparams, Mapping) else hparams
    return list(zip(names, hparams, strict=True))


def _plain(value):
    if isinstance(value, ConfigDict):
        return _plain(value.to_dict())
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _like(old, text, dotted):
    """The text as a value of the old one's type."""
    value = literal(text)
    if isinstance(old, tuple | list):
        value = value if isinstance(value, tuple | list) else (value,)
        if old and isinstance(old[0], str) and None in value:
            # a mechanism's name is "none"
            value = tuple(text.removesuffix(",").split(","))
        if old and not all(_fits(item, old[0]) for item in value):
            kind = type(old[0]).__name__
            raise ValueError(f"config.{dotted} takes {kind}s such as {_typed(old)}, got {text!r}")
        return tuple(value)
    if isinstance(old, str):
        return text
    if not _fits(value, old):
        kind = type(old).__name__
        raise ValueError(f"config.{dotted} must be {kind} such as {old!r}, got {text!r}")
    return float(value) if isinstance(old, float) else value


def _fits(value, example):
    if example is None:
        return True
    if isinstance(example, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(example)


def _typed(values):
    return ",".join(map(str, values))


def literal(text: str) -> Any:
    """A number, truth, None or tuple as typed on a command line, else the text."""
    words = {"true": True, "false": False, "none": None, "": ()}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        # a comma at the end makes a tuple of one, as in Python
        return tuple(map(literal, text.removesuffix(",").split(","))) if "," in text else text


def _nearest(word, known):
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"; there are {', '.join(known)}{hint}"
