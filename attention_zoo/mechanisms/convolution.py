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

    def stack(convolve):
        def run(params, q, k, v, *, mask=None, causal=False):
            x = ops.hide(v, mask).reshape(*v.shape[:2], -1).astype(jnp.float32)
            for kernel, bias, dilation in layers_of(params):
                new = convolve(x, kernel, dilation=dilation, causal=causal)
                x = x + ops.hide(jax.nn.relu(new + bias), mask)
            return x.reshape(v.shape).astype(v.dtype)

        return run

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        def convolve(x, kernel, *, dilation, causal):
            sides = taps.reach(width, dilation, causal)
            return taps.windows(halo.exchange(x, *sides, axis), kernel, dilation)

        return stack(convolve)(params, q, k, v, mask=mask, causal=causal)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        rest, C = dims.kv_len - dims.kv_len // P, dims.heads * dims.value_dim
        sides = [side for dilation in dilations for side in taps.reach(width, dilation, causal)]
        tokens = sum(min(side, rest) for side in sides)
        return traffic.permute(traffic.FLOAT * dims.batch * tokens * C)

    def layers_of(params):
        return zip(params["kernels"], params["biases"], dilations, strict=True)

    def cost(dims: Dims, *, causal=False):
        C, N = dims.heads * dims.value_dim, dims.q_len
        flops = 2 * dims.batch * N * layers * width * C * C
        recent = sum((width - 1) * dilation for dilation in dilations)
        x, kernel, several = dims.batch * N * C, width * C * C, layers > 1
        # the shifts of a layer's input and, side by side, its windows; kernels, and what is added
        windows = max(2 * width - 1, 3 if several else 4) * x
        forward = windows + several * ((layers - 1) * kernel + max(x, kernel))
        # windows and sums of all layers, two gradients of sums, and that of a layer's windows, some
        # of it in the place of others: fitted to compiled calls of several layers
        backward = layers * (width + 1) + 2 + several * (width - 1.5)
        kernels = 2 * layers - 1 - 2 * several
        return Cost(
            flops,
            ideal_flops=flops,
            bytes=4 * forward,
            train_bytes=round(4 * (max(2 * width - 1, backward) * x + kernels * kernel)),
            state_bytes=4 * dims.batch * recent * C,
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
        stack(taps.convolve),
        stack(taps.summed),
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
