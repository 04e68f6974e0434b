"""Fuzzing the space file: YAML with everything in it that YAML, Python and people know."""

import json
import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from damages import ODD_NAMES, Case, damaged, damaged_lines, damaged_tree, expect, mostly, repeated
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sepsearch.audio.spectrogram import PRESETS, band_matrix
from sepsearch.models.families import make_config
from sepsearch.spaces.parameter import Parameter
from sepsearch.spaces.space import Space, load_space

SHIPPED = sorted((Path(__file__).resolve().parents[3] / "search_spaces").glob("*.yaml"))


class Raw(str):
    """Text that goes into the file as it is."""


ODD_TEXTS = [
    Raw(text)
    for text in (
        "010",
        "0x1F",
        "0b11",
        "0o17",
        "1_000",
        "1:30",
        "190:20:30",
        "1:30.5",
        "+8",
        "-0",
        "8.",
        ".5",
        "8e0",
        "1e999",
        "-1e999",
        "1e-999",
        "5e-324",
        "1.7976931348623157e308",
        ".nan",
        ".NaN",
        ".inf",
        "-.inf",
        "nan",
        "inf",
        "Infinity",
        "1e",
        "e3",
        "+",
        "-",
        ".",
        "~",
        "null",
        "",
        "yes",
        "No",
        "ON",
        "off",
        "true",
        "2024-01-01",
        "2024-13-45",
        "2024-01-01T25:61:61Z",
        "=",
        "<<",
        "9" * 19,
        "9" * 5000,
        "-" + "9" * 5000,
        "9" * 400 + ".5",
        "0." + "0" * 4000 + "1",
        "٣",
        "²",
        "1٣",
        "８",
        "\u00a08",
        "!!int '8'",
        "!!float '8'",
        "!!str 8",
        "!!bool 8",
        "!!null 8",
        "!!timestamp x",
        "!!binary =",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!!python/object:object {}",
        "!x 8",
        "! 8",
        "!!map 8",
        "!!seq 8",
        "!!map [a]",
        "!!seq {a: 1}",
        "&a 8",
        "*a",
        "&a [*a]",
        "? 8",
        "{? [a, b] : 1}",
        "{[1]: 2}",
        "{8: 9}",
        "{~: 1}",
        "{1.5: 1}",
        "{true: 1}",
        "{a: 1, a: 2}",
        "{<<: {filters: [8]}}",
        "[",
        "]",
        "{",
        "}",
        "'",
        '"',
        '"\\x00"',
        '"\\ud800"',
        '"\\U0001F600"',
        '"\\e[31m"',
        "|",
        ">",
        "%",
        "@",
        "`",
        "#",
        "---",
        "...",
        "8 # nine",
        "'8'",
        "\t8",
        "[8, , 9]",
        "\x00",
        "\x7f",
        "\ufeff",
        "\u2028",
        "\ud7ff",
        "x" * 2000,
        "[" * 15 + "]" * 15,
        "[" * 2000,
        "{a: " * 500,
        "[" * 500 + "]" * 500,
    )
]
ODD_NUMBERS = [0, -1, 1, 2, 3, 8, 64, 65, 1024, 1025, 10**6, 10**6 + 1, 2**63, 10**17, 0.0, 0.5, 1.0, 1e-5, 10.0, 1e5]
NAMES = [Raw(json.dumps(name)) for name in ODD_NAMES] + [
    "filters",
    "head",
    "l2",
    "family",
    "fixed",
    "search",
    "when",
    "choices",
    "low",
    "step",
    "split",
    "front_end",
    "parameters",
    "detector_layers",
    Raw("{a: 1}"),
    Raw("[a]"),
    Raw("? a"),
    Raw("8"),
    Raw("~"),
    Raw("<<"),
    Raw("!!str a"),
    Raw("*a"),
    Raw("&a b"),
    Raw("yes"),
]
PARAMETERS: dict[str, list[Any]] = {
    "filters": [[8, 16], {"low": 4, "high": 32, "step": 4}, {"low": 1, "high": 64, "log": True}, 12],
    "preparer_kernel_1": [[3, 5], {"low": 3, "high": 7, "step": 2}, {"low": 3, "high": 7}, {"low": 2, "high": 6}],
    "activation": [["elu", "relu"], "gelu", {"choices": ["elu"], "when": {"detector_layers": 2}}],
    "detector_kernel_frequency": [{"low": 4, "high": 48, "step": 4}, [4, 8]],
    "detector_layers": [[1, 2], 2],
    "detector_width": [{"choices": [64, 128], "when": {"detector_layers": 2}}, {"low": 8, "high": 900}],
    "head": ["mask", ["relu", "mask"]],
    "learning_rate": [{"low": Raw("3e-4"), "high": Raw("1e-2"), "log": True}, [1e-3, 0.01], {"low": 1, "high": 3}],
    "l2": [[0.0, Raw("1e-7")], {"low": 0.0, "high": 0.1}, 0.0, 0],
    "batch_size": [[16, 32], 32],
    "channels": [{"choices": [4, 8], "when": {"family": "unet"}}, {"low": 4, "high": 16}],
    "frames": [{"choices": [64, 128], "when": {"offsets": "random"}}, 128],
    "offsets": [{"choices": ["clip", "random"], "when": {"family": "unet"}}, ["random"]],
    "heads": ["all", ["one", "all"]],
}
SECTIONS: dict[str, list[Any]] = {
    "family": ["report", "unet", ["report", "unet"], ["unet"]],
    "fixed": [{"head": "mask"}, {"l2": 0.5}],
    "search": [{"trials": 5, "epochs": 9, "sampler": "gp"}, {"startup_trials": 3, "grace_epochs": 1}],
    "final": [{"configurations": 1, "seeds": 2, "epochs": 6}],
    "split": [{"train": 0.6, "validation": 0.2, "test": 0.2}, {"train": 0.5, "validation": 0.25, "test": 0.25}],
    "front_end": [
        {"preset": "mel"},
        {"preset": "log", "low_hz": 20.0},
        {"axis": "linear", "window": 2048},
        {"clip_seconds": 8.0, "high_hz": 9000.0},
    ],
}
BOMB = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 107)
)


def emit(tree: Any, blocks: bool = False) -> str:
    """YAML of a tree, on one line, or with a line for every key of a mapping."""
    if isinstance(tree, dict) and blocks:
        return "\n".join(f"{emit(key)}: {emit(value)}" for key, value in tree.items())
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{emit(key)}: {emit(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(emit, tree)) + "]"
    if isinstance(tree, Raw):
        return tree
    if isinstance(tree, str):
        return tree if re.fullmatch(r"[a-z_]+[0-9]?", tree) else json.dumps(tree)
    if isinstance(tree, float):
        return repr(tree)
    return json.dumps(tree)


class Target:
    """`sepsearch.spaces.space.load_space`: what it accepts must say what the file says, and build networks."""

    typed = False

    def __init__(self, folder: Path):
        self.path = folder / "space.yaml"
        self.shipped = [path.read_bytes() for path in SHIPPED]

    def cases(self) -> SearchStrategy[Case]:
        """Space files, mostly small ones that were sound before they were damaged."""

        def chosen(pools: dict[str, list[Any]], least: int, most: int) -> SearchStrategy[dict[str, Any]]:
            names = st.lists(st.sampled_from(sorted(pools)), min_size=least, max_size=most, unique=True)
            return names.flatmap(
                lambda found: st.fixed_dictionaries({name: st.sampled_from(pools[name]) for name in found})
            )

        def odd(tree: Any) -> SearchStrategy[Any]:
            return st.one_of(damaged_tree(tree, ODD_TEXTS, NAMES), damaged_tree(tree, ODD_NUMBERS, NAMES))

        def bytes_damaged(data: bytes) -> SearchStrategy[bytes]:
            return st.one_of(damaged(data), damaged(data), damaged_lines(data))

        sound = st.tuples(chosen(PARAMETERS, 1, 2), chosen(SECTIONS, 0, 1)).map(
            lambda two: {"parameters": two[0], **two[1]}
        )
        trees = mostly(sound.flatmap(lambda tree: repeated(odd, tree, 3)), sound)
        texts = st.tuples(trees, st.booleans()).map(lambda two: emit(*two).encode("utf-8", "surrogatepass"))
        small = mostly(texts, texts.flatmap(bytes_damaged))
        shipped = st.sampled_from(self.shipped).flatmap(lambda data: repeated(bytes_damaged, data, 2))
        bombs = st.one_of(damaged(BOMB), st.just(BOMB + b"parameters: *i\n"))
        return mostly(small, st.one_of(shipped, bombs), 50).map(lambda data: {"space.yaml": data})

    def check(self, case: Case) -> bool:
        """Load it; raises `Wrong` if what was accepted is not what is written there."""
        data = case["space.yaml"] or b""
        self.path.write_bytes(data)
        space = load_space(self.path)
        written = yaml.load(data.decode(), Loader=yaml.BaseLoader)
        family = written.get("family", "report" if "family" not in written["parameters"] else space.family)
        _compare(list(space.families) if isinstance(family, list) else space.family, family, "family")
        for name in ("search", "final", "split", "front_end"):
            _compare(getattr(space, name), written.get(name, {}), name)
        for name, value in written["parameters"].items():
            here = space.parameters.get(name, space.fixed.get(name))
            _compare(here, {"choices": value} if isinstance(value, list) else value, name)
        for name, value in written["fixed"].items() if isinstance(written.get("fixed"), dict) else ():
            _compare(space.fixed[name], value, name)
        _check_networks(space)
        if (front_end := space.front_end.resolve()) not in PRESETS.values() and front_end.window <= 8192:
            bands = band_matrix.__wrapped__(front_end).double().sum(0).numpy()
            expect(bool(np.allclose(bands, 1, atol=1e-3)), "bands do not average")
        return True


def _compare(read: Any, written: Any, where: str) -> None:
    """Raise `Wrong` unless a value means what is written, where all scalars are text."""
    if isinstance(written, dict):
        for key, value in written.items():
            _compare(read[key] if isinstance(read, dict) else getattr(read, key), value, f"{where}: {key}")
        return
    if isinstance(written, list):
        expect(len(read) == len(written), where)
        for item, text in zip(read, written, strict=True):
            _compare(item, text, where)
        return
    if isinstance(read, bool):
        same = written.lower() in (("true", "yes", "on") if read else ("false", "no", "off"))
    elif isinstance(read, int):
        same = re.fullmatch(r"[-+]?[0-9]+", written) is not None and str(read) == written.removeprefix("+").replace(
            "-0", "0"
        )
    elif isinstance(read, float):
        exact = Decimal(written)
        same = math.isfinite(read) and abs(Decimal(read) - exact) <= abs(exact) * Decimal("1e-15") + Decimal("5e-324")
    elif isinstance(read, str):
        same = read == written
    else:
        same = written.lower() in ("", "~", "null")
    expect(same, f"{where}: {written[:50]!r} was read as {read!r}")


def _reachable(parameter: Parameter, share: float) -> Any:
    """The value at a share of a parameter's range."""
    if parameter.choices is not None:
        return parameter.choices[int(share * len(parameter.choices))]
    low, high = parameter.low or 0, parameter.high or 0
    if not parameter.whole:
        return low + share * (high - low)
    step = parameter.step or 1
    return low + step * int(share * ((int(high) - int(low)) // step + 1))


def _check_networks(space: Space) -> None:
    for share in (0.0, 0.3, 0.6, 0.99):
        values: dict[str, Any] = {}
        for _ in space.parameters:  # as often as conditions can hang on each other
            for name, parameter in space.parameters.items():
                if all(values.get(other) == value for other, value in parameter.when.items()):
                    values.setdefault(name, _reachable(parameter, share))
        try:
            make_config(space.complete(values))
        except Exception as error:
            expect(False, f"an accepted space gives {values}: {error}")
