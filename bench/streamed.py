"""What it costs to leave images on disk: milliseconds a batch, and memory, against all of them in memory.

`python bench/streamed.py [IMAGES]`: pictures of 64×64×3, as Tiny ImageNet's, batches of 128 in random order; 20,000 of
them by default (Tiny ImageNet has 110,000). The file has just been written, so it is in the page cache.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lottery_ticket.data.prepared import prepare
from lottery_ticket.data.sources import load_images

BATCH = 128


def anonymous() -> int:
    """Bytes of memory that are this process's own, without pages of files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def main() -> None:
    """Print both sides."""
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as folder:
        for part, images in (("train", count), ("test", 1000)):
            draw = np.random.default_rng(0)
            shape = (images, 64, 64, 3)
            x = np.lib.format.open_memmap(f"{folder}/x_{part}.npy", "w+", np.uint8, shape)
            for index in range(images):
                x[index] = draw.integers(0, 256, shape[1:], np.uint8)
            x.flush()
            np.save(f"{folder}/y_{part}.npy", np.arange(images) % 200)
        images = load_images(folder)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).split(BATCH)
        for told, in_memory in (("on disk", 0), ("in memory", None)):
            before, begun = anonymous(), time.perf_counter()
            data = prepare(images, 0, torch.device("cpu"), in_memory=in_memory)
            prepared = time.perf_counter() - begun
            begun = time.perf_counter()
            for batch in order:
                data.train.x.index_select(0, batch)
            each = 1000 * (time.perf_counter() - begun) / len(order)
            taken = (anonymous() - before) / 2**20
            print(f"{told}: {each:.2f} ms a batch of {BATCH}, {taken:,.0f} MiB, prepared in {prepared:.1f} s")


if __name__ == "__main__":
    main()
