"""Passages through an encoder of BERT-base's shape, by tokens a batch: as token ids, and from text to a store on disk."""

from __future__ import annotations

from card.device import Card
from card.report import ENCODE, Report
from card.world import World

import distill
from distill.encoders import batching


def measure(card: Card, world: World, report: Report) -> None:
    sizes, shape = world.sizes, world.sizes.encoder
    encoder = distill.load_encoder(str(world.encoder)).prepare_for(card.device)
    ids = encoder.token_ids(world.passages(sizes.passages), "document")
    tokens, operations = sum(map(len, ids)), shape.forward_products([(1, len(text)) for text in ids])
    rate = card.product_rate(sizes.square, sizes.square, sizes.square)
    bound = {"bound": tokens * rate / operations, "bound_is": f"a product of {sizes.square:,} x {sizes.square:,}", "least_share": ENCODE}
    for count in sizes.tokens_per_batch:
        batching.TOKENS_PER_BATCH["cuda"] = count
        seconds = card.seconds(lambda: batching.encode_token_ids(encoder, ids, "auto"))
        column = f"{count:,} tokens a batch"
        report.add("encode", "token ids to vectors", column, tokens / seconds, "tokens/s", **bound, passages_a_second=len(ids) / seconds)
