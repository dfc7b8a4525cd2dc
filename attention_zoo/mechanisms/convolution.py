"""A stack of dilated convolutions whose receptive field doubles. arXiv:1609.03499; 1803.01271.

Reads the raw input as `v`, its H heads of E side by side as C = H * E features. Layer l adds
relu(b + Σ_j K_j x[t + (j - centre) 2^l]) to its input: `width` taps around each position, in a
causal call up to it, so that `layers` of them see (width - 1) (2^layers - 1) + 1 positions. Hidden
positions are 0 in every layer. Differs from the papers: one convolution a residual, no gate.
"""

import jax
import jax.numpy as jnp

from attention_zoo import ops, taps
from attention_zoo.parallel import halo, traffic
from attention_zoo.types import Cost, Decode, Dims, Mechanism, Parallel


def make(width: int = 3, layers: int = 4) -> Mechanism:
    ops.positive(width=width, layers=layers)
    dilations = [2**layer for layer in range(layers)]

    def init(rng, dims: Dims):
        C = dims.heads * dims.value_dim
        shape = (layers, width, C, C)
        kernels = jax.random.normal(rng, shape) * (2 / (width * C)) ** 0.5
        return {"kernels": kernels, "biases": jnp.zeros((layers, C))}

    def stack(rectified):
        def run(params, q, k, v, *, mask=None, causal=False):
            x = ops.hide(v, mask).reshape(*v.shape[:2], -1).astype(jnp.float32)
            for kernel, bias, dilation in layers_of(params):
                x = x + ops.hide(rectified(x, kernel, bias, dilation, causal), mask)
            return x.reshape(v.shape).astype(v.dtype)

        return run

    def by_taps(x, kernel, bias, dilation, causal):
        return jax.nn.relu(taps.summed(x, kernel, dilation, causal) + bias)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        def rectified(x, kernel, bias, dilation, causal):
            sides = taps.reach(width, dilation, causal)
            return jax.nn.relu(
                taps.windows(halo.exchange(x, *sides, axis), kernel, dilation) + bias
            )

        return stack(rectified)(params, q, k, v, mask=mask, causal=causal)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        rest, C = dims.kv_len - dims.kv_len // P, dims.heads * dims.value_dim
        sides = [side for dilation in dilations for side in taps.reach(width, dilation, causal)]
        tokens = sum(min(side, rest) for side in sides)
        return traffic.permute(traffic.FLOAT * dims.batch * tokens * C)

    def layers_of(params):
        return zip(params["kernels"], params["biases"], dilations, strict=True)

    def cost(dims: Dims, *, causal=False):
        C, B, N = dims.heads * dims.value_dim, dims.batch, dims.q_len
        sizes = [taps.rows_at_once(N, taps.reach(width, by, causal)) for by in dilations]
        positions = sum(ops.ceil_to(N, size) for size in sizes)
        recent = sum((width - 1) * dilation for dilation in dilations)
        # of a chunk the windows of all taps side by side
        x, kernel, more = B * N * C, width * C * C, layers - 1
        windows, torn = width * B * max(sizes) * C, N % max(sizes) > 0
        # fitted to compiled calls: what stands beside the windows is x, kernels, and in training
        # the inputs of all layers and which sums are above 0
        if max(sizes) == N:
            held = 0.7 * x + (1.4 + 0.45 * (more > 0)) * windows + max(0.5, more) * kernel
            kept = (1 + 0.53 * more) * x + (3 + 0.72 * more) * windows + (2 + 1.7 * more) * kernel
        else:
            held = (0.8 + 1.2 * (more > 0) + 1.2 * torn) * x + 2.2 * windows + 0.9 * more * kernel
            held = max(held, (2 + (more > 0)) * x + windows + (more > 0) * kernel)
            kept = (2.6 + 1.33 * more + (1.4 + 0.27 * more) * torn) * x
            kept += 3.2 * windows + (2.5 + 2.5 * more) * kernel
        return Cost(
            2 * B * positions * width * C * C,
            ideal_flops=2 * B * N * layers * width * C * C,
            bytes=round(4 * held),
            train_bytes=round(4 * kept),
            state_bytes=4 * B * recent * C,
        )

    def decode_init(params, dims: Dims, dtype=jnp.float32):
        C = dims.heads * dims.value_dim
        return {
            f"layer_{layer}": jnp.zeros((dims.batch, (width - 1) * dilation, C))
            for layer, dilation in enumerate(dilations)
        }

    def advance(params, state, q, k, v, *, mask=None):
        x, kept = ops.hide(v, mask).reshape(*v.shape[:2], -1).astype(jnp.float32), {}
        for (name, recent), (kernel, bias, dilation) in zip(
            state.items(), layers_of(params), strict=True
        ):
            new, kept[name] = taps.advance(recent, x, kernel, dilation=dilation)
            x = x + ops.hide(jax.nn.relu(new + bias), mask)
        return x.reshape(v.shape).astype(v.dtype), kept

    return Mechanism(
        "convolution",
        stack(taps.rectified),
        stack(by_taps),
        cost,
        citation="1609.03499; 1803.01271",
        formula="layers·width·Nd'²·heads",
        init=init,
        decode=Decode(decode_init, advance, advance),
        parallel=Parallel(sharded, sent, "halo of every layer"),
        streams="x",
        cross=False,
        reasons={"cross": "it goes along one sequence"},
    )
