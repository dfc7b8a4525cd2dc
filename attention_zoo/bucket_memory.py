"""What `buckets.windows` holds: a formula fitted to 250 compiled calls of `lsh`, draws 1 to 59 of
tests/cost_grid.py among them."""

from attention_zoo import buckets, ops

# what one lane holds at most, in the units below, by (pass, whether there are several rounds,
# whether all chunks are taken at once)
HELD = {
    ("forward", False, False): {
        **{"D": 2.0, "E": 2.25, "copied E": 1.75, "lanes": 0.75, "logits": 1.25, "keys": 0.75},
    },
    ("forward", False, True): {
        **{"D": 3.0, "E": 2.25, "copied D": 0.5, "copied E": 0.75, "logits": 1.5},
    },
    ("forward", True, False): {
        **{"D": 1.5, "E": 2.25, "copied D": 0.5, "copied E": 2.5, "lanes": 0.75},
        **{"logits": 1.75, "keys": 0.5, "rounds E": 1.0, "rounds²": 1.25},
    },
    ("forward", True, True): {
        **{"D": 3.25, "E": 2.75, "copied D": 0.5, "copied E": 2.25, "logits": 1.25},
        **{"rounds D": 0.25, "rounds E": 1.0},
    },
    ("train", False, False): {
        **{"D": 1.5, "E": 4.25, "copied D": 2.25, "copied E": 3.5, "lanes": 1.0},
        **{"logits": 2.25, "keys": 2.75, "carried": 2.25},
    },
    ("train", False, True): {
        **{"D": 5.25, "E": 4.25, "copied D": 0.5, "copied E": 1.25, "logits": 2.75},
    },
    ("train", True, False): {
        **{"D": 5.5, "E": 3.75, "copied D": 1.0, "copied E": 5.75, "logits": 5.25, "keys": 1.0},
        **{"carried": 0.25, "rounds D": 0.5, "rounds E": 2.0, "rounds²": 6.25},
        **{"rounds carried": 1.0, "rounds² tags": 4.25},
    },
    ("train", True, True): {
        **{"D": 7.25, "E": 0.25, "copied D": 4.0, "copied E": 0.25, "lanes": 0.75},
        **{"logits": 3.25, "rounds D": 2.25, "rounds E": 6.5, "rounds²": 0.25},
        **{"rounds logits": 3.5},
    },
}


def window_held(
    N: int,
    block: int,
    rounds: int,
    D: int,
    E: int,
    lanes: int,
    heads: int,
    *,
    once: bool = True,
    circular: bool = False,
) -> tuple[float, float]:
    """Numbers of `windows` alive at once in each of the lanes, beside what is given and given
    back: forward and in the backward pass."""
    block = min(block, N)
    size, some = ops.ceil_to(N, block), buckets.chunks_at_once(N, block, lanes)
    logits = buckets.window_pairs(N, block, circular) * some * block // size
    carried = size // some  # the last chunk of every turn
    units = {
        "D": size * D,
        "E": size * E,
        "copied D": (heads > 1) * size * D,
        "copied E": (heads > 1) * size * E,
        "lanes": (lanes > 1) * size * (D + E),
        "logits": logits,
        "keys": 2 * some * block * (D + E),
        "carried": carried * (D + E),
        "rounds D": rounds * size * D,
        "rounds E": rounds * size * E,
        "rounds logits": rounds * logits,
        "rounds carried": rounds * carried * (D + E),
        # every round's tags in every round
        "rounds²": once * rounds**2 * size,
        "rounds² tags": once * rounds**2 * carried,
    }
    whole = some * block == size
    return tuple(
        sum(times * units[unit] for unit, times in HELD[when, rounds > 1, whole].items())
        for when in ("forward", "train")
    )
