"""Passages through an encoder of BERT-base's shape, by tokens a batch: as token ids, and from text to a store on disk."""

from __future__ import annotations

from functools import partial

import distill
from card.device import Card
from card.report import ENCODE, OPERATIONS, Report
from card.world import World
from distill.encoders import batching


def measure(card: Card, world: World, report: Report) -> None:
    sizes, shape = world.sizes, world.sizes.encoder
    towers = distill.load_towers(str(world.encoder)).prepare_for(card.device)
    ids = towers.document.token_ids(world.passages(sizes.passages), "document")
    square = card.product_rate(sizes.square, sizes.square, sizes.square)
    bound_is = f"a product of {sizes.square:,} x {sizes.square:,}"

    def add(row: str, count: int, lengths: list[int], seconds: float) -> None:
        tokens, operations = sum(lengths), shape.forward_products([(1, length) for length in lengths])
        more = {"bound": tokens * square / operations, "bound_is": bound_is, "passages_a_second": len(lengths) / seconds}
        more[OPERATIONS] = operations / seconds
        report.add("encode", row, f"{count:,} tokens a batch", tokens / seconds, "tokens/s", least_share=ENCODE, **more)

    lengths = [len(text) for text in ids]
    for count in sizes.tokens_per_batch:
        towers.limit_batches(count)
        add("token ids to vectors", count, lengths, card.seconds(lambda: batching.encode_token_ids(towers.document, ids, "auto")))
    stored = [len(text) for text in towers.document.token_ids(list(world.source().documents()), "document")]
    for count in sizes.tokens_per_batch:
        out = str(world.folder / f"store-{count}")
        encode = partial(distill.encode, str(world.encoder), world.source(), out, splits=["dev"], tokens_per_batch=count)
        seconds = card.time(encode)
        add("text to store", count, stored, seconds)
