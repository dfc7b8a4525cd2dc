"""Token-by-token generation on decode states: one prefill, then a step a token in one scan.

`begin` and `advance` are an encoder-decoder's, a token at a time, for `attention_zoo.beam`.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from attention_zoo import ops


def generate(
    model,
    prompt,
    steps: int,
    *,
    rng=None,
    temperature: float = 0.0,
    mask=None,
    source=None,
    source_mask=None,
):
    """[B, steps] tokens after a prompt [B, T]: the likeliest, or drawn with `rng` at a temperature.

    Shorter prompts are padded on the left (`mask`), and padding counts as positions. An
    encoder-decoder takes its `source` too.
    """
    c = model.config
    ops.positive(steps=steps)
    if c.kind == "encoder" or (source is None) != (c.kind == "decoder"):
        given = "no source" if source is None else "a source"
        raise ValueError(
            f"generate takes a decoder, or an encoder_decoder and a source; got {c.kind}, {given}"
        )
    if prompt.shape[1] + steps > c.max_len:
        raise ValueError(
            f"prompt and steps must be at most max_len={c.max_len}, got {prompt.shape[1]} + {steps}"
        )
    if temperature < 0 or (temperature > 0 and rng is None):
        raise ValueError(f"temperature must be 0, or above with rng; got {temperature}, rng={rng}")
    if mask is not None and not isinstance(mask, jax.core.Tracer) and not mask[:, -1].all():
        raise ValueError("mask hides the last token of a prompt; pad prompts on the left")
    graph, variables = nnx.split(model)
    rng = jax.random.key(0) if rng is None else rng
    arrays = (variables, prompt, rng, temperature, mask, source, source_mask)
    return _generate(graph, *arrays, steps=steps, greedy=temperature == 0)


@functools.partial(jax.jit, static_argnames=("graph", "steps", "greedy"))
def _generate(
    graph, variables, prompt, rng, temperature, mask, source, source_mask, *, steps, greedy
):
    model = nnx.merge(graph, variables)
    B, T = prompt.shape
    embed, stack, norm, memory = model.embed, model.stack, model.norm, None
    if source is not None:
        memory, source_mask = model.encode(source, source_mask, None)
        embed, stack, norm = model.target_embed, model.target_stack, model.target_norm

    def advance(how, tokens, states, start, mask=None):
        """Logits after the last of these tokens, and the states."""
        h, mask = embed(tokens, mask, start=start)
        h, states = stack.run(_visit(how, mask, source_mask), h, states, moves=False)
        h = h[:, -1]
        return model.head((norm(h) if norm else h).astype(jnp.float32)), states

    def choose(logits, key):
        chosen = logits.argmax(-1) if greedy else jax.random.categorical(key, logits / temperature)
        return chosen.astype(prompt.dtype)

    def step(carry, key):
        token, states, position = carry
        logits, states = advance("step", token[:, None], states, position)
        token = choose(logits, key)
        return (token, states, position + 1), token

    keys = jax.random.split(rng, steps)
    logits, states = advance("prefill", prompt, _states(stack, memory, B, T + steps), 0, mask)
    first = choose(logits, keys[0])
    _, rest = jax.lax.scan(step, (first, states, jnp.asarray(T, jnp.int32)), keys[1:])
    return jnp.concatenate([first[:, None], rest.T], 1)


def begin(model, source, mask, length: int) -> dict:
    """The state before the first of at most `length` tokens; its arrays have a row a sequence."""
    _only_with_source(model)
    memory, mask = model.encode(source, mask, None)
    B, S, _ = memory.shape
    # of one sequence each, for some states hold what is common to a batch
    stack = model.target_stack
    states = jax.vmap(lambda memory: _states(stack, memory[None], 1, length))(memory)
    seen = jnp.ones((B, S), bool) if mask is None else mask
    return {"mask": seen, "states": states, "position": jnp.zeros(B, jnp.int32)}


def advance(model, state: dict, tokens):
    """(logits [B, target_vocab] after these tokens [B], the state after them)."""

    def one(state, token):
        h, _ = model.target_embed(token[None, None], None, start=state["position"])
        visit = _visit("step", None, state["mask"][None])
        h, states = model.target_stack.run(visit, h, state["states"], moves=False)
        h = model.target_norm(h) if model.target_norm else h
        moved = {"states": states, "position": state["position"] + 1}
        return model.head(h[0, 0].astype(jnp.float32)), state | moved

    return jax.vmap(one)(state, tokens)


def _states(stack, memory, batch: int, length: int):
    """A state a layer, with what its cross-attention reads of the memory, if any."""

    def read(block, memory, own):
        return memory, {"own": own, "source": block.cross.read(memory) if block.has_cross else None}

    return stack.run(read, memory, stack.init_states(batch, length), moves=False)[1]


def _visit(how: str, mask, source_mask):
    """`Stack.run`'s visit: a block's `how`, "prefill" or "step", on one of `_states`."""

    def visit(block, h, state):
        seen = {"memory": state["source"], "memory_mask": source_mask}
        h, own = getattr(block, how)(h, state["own"], mask=mask, **seen)
        return h, state | {"own": own}

    return visit


def _only_with_source(model):
    if model.config.kind != "encoder_decoder":
        raise ValueError(f"search takes an encoder_decoder, got a {model.config.kind}")
