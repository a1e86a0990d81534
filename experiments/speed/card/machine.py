"""What the card can do: the rates that the bounds of other parts rest on."""

from __future__ import annotations

import torch
from card.device import Card
from card.report import Report
from card.world import World

from distill.files.provenance import collect_provenance


def measure(card: Card, world: World, report: Report) -> None:
    origin, square = collect_provenance(), world.sizes.square
    machine = {"card": torch.cuda.get_device_name(0), "processor": origin["processor"], "gpus": origin["gpus"]}
    versions = {"python": origin["python"], "commit": origin["commit"], "cuda": torch.version.cuda, **origin["packages"]}
    report.write(machine=machine, versions=versions)
    rate = card.product_rate(square, square, square, torch.bfloat16)
    report.add("machine", f"product of {square:,} x {square:,} in bf16", "measured", rate / 1e12, "TFLOP/s")
    rate = card.product_rate(square, square, square, torch.float32)
    report.add("machine", "the same in fp32", "measured", rate / 1e12, "TFLOP/s")
    report.add("machine", "copy from pinned memory", "measured", card.copy_rate() / 1e9, "GB/s")
    source = card.random(square, square)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()  # read and written
    report.add("machine", "copy on the card", "measured", moved / card.seconds(lambda: target.copy_(source)) / 1e9, "GB/s")
