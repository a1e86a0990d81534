"""What the card can do: the rates that the bounds of other parts rest on."""

from __future__ import annotations

import torch

from card.device import Card
from card.report import Report
from card.world import World
from distill.files.provenance import collect_provenance


def measure(card: Card, world: World, report: Report) -> None:
    origin, square = collect_provenance(), world.sizes.square
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    machine = {
        "card": torch.cuda.get_device_name(0),
        "memory_gib": round(memory, 1),
        "processor": origin["processor"],
        "gpus": origin["gpus"],
    }
    versions = {"python": origin["python"], "commit": origin["commit"], "cuda": torch.version.cuda, **origin["packages"]}
    report.write(machine=machine, versions=versions)
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        rate = card.product_rate(square, square, square, dtype)
        report.add("machine", f"products in {name}, TFLOP/s", "measured", rate / 1e12, "TFLOP/s", rows_and_columns=square)
    report.add("machine", "copy from pinned memory, GB/s", "measured", card.copy_rate() / 1e9, "GB/s")
    source = card.random(square, square)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()  # read and written
    rate = moved / card.seconds(lambda: target.copy_(source))
    report.add("machine", "copy on the card, GB/s", "measured", rate / 1e9, "GB/s")
