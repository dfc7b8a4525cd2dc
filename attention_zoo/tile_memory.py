"""What attention by tiles holds on a CPU, in numbers, at the widest moment of the compiled program.

XLA makes an array as soon as its inputs are there, the zeros of the gradients too, before the
forward pass; only what stands in a loop is made in its turn.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Held:
    """Numbers that `attend` holds: what it gives, a group's copies of q, k and v and its output,
    and a tile's logits, weights and slices.

    XLA unrolls the loop over groups where there is but one (`once`): then a group's arrays stand
    as long as the pass, those of the backward pass from the start, and the result is put in place
    at the end, where before it the largest array that fits has stood.
    """

    out: int
    grads: int
    rows: int
    copies: tuple[int, int, int]
    sums: int
    logits: int
    forward: int
    backward: int
    once: bool
    inputs: tuple[int, ...] = ()
    """q, k and v where the whole arrays are padded first."""

    def alone(self) -> int:
        """Of a forward call."""
        group = sum(self.copies) + self.sums + self.forward
        return self.out + group - self.once * fitting(self.out, *self.copies, self.logits)

    def standing(self, inputs: int, result: int) -> int:
        """Outside of loops; `inputs` and `result` where there are some."""
        return sum(self.copies) + self.sums if self.once else inputs + result

    def loop(self) -> int:
        """In the loops of a forward call."""
        return self.forward + (0 if self.once else sum(self.copies) + self.sums)

    def alone_in_training(self) -> int:
        """Of a call with its gradients."""
        group = sum(self.copies) + self.sums
        if self.once:
            return self.grads + 2 * self.rows + 2 * group
        # between the two passes the product of the output and its gradient
        between = self.out + max(self.out, group + self.forward)
        return self.grads + 2 * self.rows + max(between, group + sum(self.copies) + self.backward)


def fitting(place: int, *sizes: int) -> int:
    """The largest of the sizes that fits."""
    return max((size for size in sizes if size <= place), default=0)


def left_over(sizes: list[int], places: list[int]) -> int:
    """The sum of the sizes that find no place: each place takes the largest one that fits."""
    left = list(sizes)
    for place in sorted(places):
        if taken := fitting(place, *left):
            left.remove(taken)
    return sum(left)


def side_by_side(parts: list[Held]) -> tuple[int, int]:
    """Numbers that parts hold forward: all that stand at once, and the most in one of the loops."""
    return sum(p.standing(sum(p.inputs), p.out) for p in parts), max(p.loop() for p in parts)


def merged(parts: list[Held], out: int, grads: tuple[int, int, int]) -> tuple[int, int]:
    """Numbers that parts and one softmax out of them hold, forward and with gradients."""
    in_place = [not part.once and not part.inputs for part in parts]
    ways = len(parts)
    stand, loop = side_by_side(parts)
    forward = stand + loop
    zeros = sum(part.standing(part.grads, part.out) for part in parts)
    # of each of several parts the product of its output and its gradient, and that of all; of a
    # part alone about half
    products = ((ways if ways > 1 else 0.5) + (not any(p.once for p in parts))) * out
    copies = sum(p.standing(sum(p.inputs), 0) - p.once * p.sums for p in parts)
    # gradients of a single tile are not added to those of others
    backward = max(
        0 if p.once else sum(p.copies) * (1 + (p.sums > 0)) + p.sums + p.backward for p in parts
    )
    training = zeros + max(stand + products, copies + backward)
    training += 2 * sum(part.rows for part in parts)
    if all(in_place) and ways > 1:
        # the sum has a place of its own; those of the gradients of q and k serve for products
        forward += out - fitting(out, *(size for p in parts for size in p.copies))
        training -= sum(fitting(place, out) for place in grads[:2])
    if not any(in_place):
        sizes = [size for p in parts for size in (p.inputs or p.copies)]
        forward += out - fitting(out, *sizes)
        # those of q and k; that of v is the place of a product
        training += sum(grads) - sum(fitting(place, *sizes) for place in grads[:2])
    return forward, round(training)
