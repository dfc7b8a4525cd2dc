"""Translation of image captions, English to German (Multi30k, Elliott et al. 2016): nats a token
and, of what is generated, BLEU.

Both languages share the sub-words of a byte-pair encoding of the training captions (sentencepiece,
no normalisation). N is the most tokens of a source, and of a target with its end; training pairs
that are longer are left out, held-out ones may not be. A batch has pairs of about one length and is
padded to one of ROOMS. BLEU is sacrebleu's (13a, cased) against the raw captions, greedy and by
beams, on test2016 and test2017. Rows to beat: the source itself, and the training caption whose
source shares most words with it.
"""

import functools
import gzip
import hashlib
import io
from collections import Counter, defaultdict

import numpy as np

from experiments.tasks import Task, data, drawn, language

START, END, PAD = 1, 2, 0
ROOMS = (16, 24, 32, 48, 64)
# batches whose pairs are sorted by length together
POOL = 50
BEAMS = 5
# of the test captions, whose attention is drawn
SHOWN = 1
# sentences that are translated at a time
LOT = 125
FILES = {"train": "train", "val": "val", "test": "test_2016_flickr", "test2017": "test_2017_flickr"}


def make(n: int = 64, vocab: int = 4000) -> Task:
    drawn.check_whole(vocab=vocab)
    pairs = _encoded(vocab)
    size_of = {
        split: np.array([max(len(x), len(y) + 1) for x, y in pairs[split]]) for split in pairs
    }
    kept = np.flatnonzero(size_of["train"] <= n)
    longest = max(size_of[split].max() for split in pairs if split != "train")
    if n < longest:
        raise ValueError(f"n must be at least {longest}, the longest held-out pair, got {n}")

    def batch(seed, step, size):
        if size > len(kept):
            raise ValueError(f"batch must be at most the {len(kept)} training pairs, got {size}")
        epoch, place = divmod(step, len(kept) // size)
        rows = _order(seed, epoch, size, size_of["train"][kept].tobytes())[place]
        return _batch([pairs["train"][kept[row]] for row in rows], size, n)

    def held_out(split, size):
        # of one length together, so that little is padded
        order = np.argsort(size_of[split], kind="stable")
        for begin in range(0, len(order), size):
            yield _batch([pairs[split][row] for row in order[begin : begin + size]], size, n)

    def judge(network):
        coder, found = subwords(vocab), _map(network, n, vocab)
        for split in ("test", "test2017"):
            order = np.argsort([len(x) for x, _ in pairs[split]], kind="stable")
            sources = [pairs[split][row][0] for row in order]
            target = [_texts(split)[1][row] for row in order]
            for beams in (1, BEAMS):
                texts = [coder.decode(one) for one in translate(network, sources, n, beams)]
                words = [split] * (split != "test") + [f"beams={beams}"] * (beams > 1)
                key = "test_bleu" + "@" * bool(words) + ", ".join(words)
                found[key], found["bleu_signature"] = bleu(texts, target)
        return found

    return Task(
        name="multi30k",
        n=n,
        model={
            "kind": "encoder_decoder",
            "inputs": "tokens",
            "vocab": vocab,
            "target_vocab": vocab,
        },
        batch=batch,
        held_out=held_out,
        sums=language.sums,
        score=lambda totals: totals["loss"] / totals["count"],
        metric="nats",
        extra=lambda totals: {"token_accuracy": totals["correct"] / totals["count"]},
        also=("test2017",),
        judge=judge,
        oracles=_oracles,
        facts={
            **data.facts("multi30k"),
            "data_sha256": _digest(),
            "train_pairs": len(kept),
            "train_pairs_too_long": len(pairs["train"]) - len(kept),
            **{f"{split}_pairs": len(pairs[split]) for split in pairs if split != "train"},
        },
        masked=True,
    )


def _map(network, n, vocab):
    """What a model with attention looks at for each word of its translation of SHOWN, for the
    lectures' picture: sub-words, and weights [target, source]."""
    if getattr(network.config, "attention", "") == "none":
        return {}
    source = _encoded(vocab)["test"][SHOWN][0]
    (whole,) = translate(network, [source], n, 1)
    # of one that never ended there is no room for the token after its last
    target, end = whole[: n - 1], ["</s>"] * (len(whole) < n)
    inputs, mask = _padded([source], 1, _room(len(source), n))
    before, _ = _padded([[START, *target]], 1, _room(len(target) + 1, n))
    weights = np.asarray(network.weights(inputs, before, mask))[0]
    weights = weights[: len(target) + len(end), : len(source)]
    coder = subwords(vocab)
    return {
        "attention_source": [coder.id_to_piece(int(t)) for t in source],
        "attention_target": [*(coder.id_to_piece(int(t)) for t in target), *end],
        "attention_weights": np.round(weights, 3).astype(float).tolist(),
    }


def translate(network, sources: list, n: int, beams: int) -> list[list[int]]:
    """The tokens of each translation up to its end."""
    found = []
    for begin in range(0, len(sources), LOT):
        some = sources[begin : begin + LOT]
        tokens, mask = _padded(some, LOT, _room(max(map(len, some)), n))
        # a row without a source would end late
        mask[len(some) :, 0] = True
        best, _ = network.search(tokens, mask=mask, start=START, end=END, steps=n, beams=beams)
        found += [_up_to_end(row) for row in np.asarray(best)[: len(some)]]
    return found


def bleu(texts: list[str], references: list[str]) -> tuple[float, str]:
    """The score, and sacrebleu's signature: its settings and version."""
    from sacrebleu.metrics import BLEU

    metric = BLEU()
    score = metric.corpus_score(texts, [references]).score
    return score, metric.get_signature().format()


def _up_to_end(row):
    ends = np.flatnonzero(row == END)
    return row[: ends[0]].tolist() if len(ends) else row.tolist()


def _room(length, n):
    return next((room for room in ROOMS if length <= room <= n), n)


def _batch(pairs, size, n):
    room = _room(max(max(len(x), len(y) + 1) for x, y in pairs), n)
    inputs, mask = _padded([x for x, _ in pairs], size, room)
    target, _ = _padded([[START, *y] for _, y in pairs], size, room)
    targets, weights = _padded([[*y, END] for _, y in pairs], size, room)
    return {
        "inputs": inputs,
        "mask": mask,
        "target": target,
        "targets": targets,
        "weights": weights,
    }


def _padded(rows, size, room):
    """([size, room] tokens, which are real)."""
    tokens, real = np.full((size, room), PAD, np.int32), np.zeros((size, room), bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row)], real[i, : len(row)] = row, True
    return tokens, real


@functools.lru_cache(4)
def _order(seed, epoch, size, lengths):
    """Rows [batches, size] of an epoch: pools of random rows, each sorted by length, and their
    batches in random order."""
    lengths = np.frombuffer(lengths, np.int64)
    random = drawn.generator("train", seed, epoch)
    rows = random.permutation(len(lengths))
    batches = []
    for begin in range(0, len(rows), POOL * size):
        pool = rows[begin : begin + POOL * size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + size] for i in range(0, len(pool) - size + 1, size)]
    # pools that a batch does not divide leave some out, never as many as a batch
    return np.stack(batches)[random.permutation(len(batches))]


@functools.cache
def _texts(split):
    """(English, German) captions."""
    return [
        gzip.decompress(data.read("multi30k", f"{FILES[split]}.{tongue}.gz"))
        .decode("utf-8")
        .strip("\n")
        .split("\n")
        for tongue in ("en", "de")
    ]


def _digest():
    texts = ["\n".join(lines) for split in FILES for lines in _texts(split)]
    return hashlib.sha256("\n\n".join(texts).encode()).hexdigest()


@functools.lru_cache(2)
def subwords(vocab: int):
    """The byte-pair encoding of the training captions: `encode(text)`, `decode(ids)`."""
    import sentencepiece

    model = io.BytesIO()
    english, german = _texts("train")
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([*english, *german]),
            model_writer=model,
            vocab_size=vocab,
            model_type="bpe",
            character_coverage=1.0,
            normalization_rule_name="identity",
            **{"pad_id": PAD, "bos_id": START, "eos_id": END, "unk_id": 3},
            minloglevel=2,
            num_threads=1,
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(f"vocab={vocab} makes no sub-words of Multi30k: {error}") from error
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@functools.lru_cache(2)
def _encoded(vocab):
    """{split: [(source tokens, target tokens)]}."""
    coder = subwords(vocab)
    return {
        split: list(zip(*(coder.encode(lines) for lines in _texts(split)), strict=True))
        for split in FILES
    }


@functools.cache
def _oracles():
    english, german = _texts("test")
    rules = {"copy_bleu": english, "nearest_bleu": _nearest(english)}
    return {name: bleu(texts, german)[0] for name, texts in rules.items()}


def _nearest(sources):
    """Of the training pair whose English shares the largest part of its words: the German."""
    english, german = _texts("train")
    bags = [Counter(text.lower().split()) for text in english]
    holding = defaultdict(list)
    for row, bag in enumerate(bags):
        for word in bag:
            holding[word].append(row)
    sizes = np.array([sum(bag.values()) for bag in bags])
    found = []
    for text in sources:
        bag, shared = Counter(text.lower().split()), np.zeros(len(bags))
        for word, times in bag.items():
            rows = holding[word]
            shared[rows] += np.minimum(times, [bags[row][word] for row in rows])
        found.append(german[int((2 * shared / (sizes + sum(bag.values()))).argmax())])
    return found
