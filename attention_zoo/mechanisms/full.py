"""Full attention: softmax(q kᵀ / sqrt(D)) v over every visible pair. arXiv:1706.03762."""

from attention_zoo import ops
from attention_zoo.types import Cost, Dims, Mechanism


def make() -> Mechanism:
    def apply(params, q, k, v, *, mask=None, causal=False):
        allowed = ops.visible(q.shape[1], k.shape[1], mask, causal)
        return ops.weigh(ops.softmax(ops.dot(q, k) * q.shape[-1] ** -0.5, allowed), v)

    def cost(dims: Dims, *, causal=False):
        pairs = dims.batch * dims.heads * dims.q_len * dims.kv_len
        flops = 2 * pairs * (dims.head_dim + dims.value_dim)
        return Cost(flops, flops, 8 * pairs)

    return Mechanism("full", apply, apply, cost, citation="1706.03762", bias=False)
