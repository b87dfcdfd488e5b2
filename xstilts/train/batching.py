"""Which rows go together: batches of about one length, in an order that seed and epoch decide, dealt out to
processes."""

from __future__ import annotations

import itertools

import numpy as np
import torch

# batches among which rows are sorted by length, in epochs of fewer and of at least LARGE batches
POOL, LARGE_POOL = 8, 50
LARGE = 500


def length_groups(lengths: torch.Tensor, size: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Every row once, in batches of `size` rows of about one length, in random order (a short batch, if any, last).

    Sorted in pools of some batches, and the batches shuffled. transformers sorts pools of up to 50 and keeps them from
    long to short; lengths tell labels and languages apart, and on small data its batches then pull one way after the
    other: XNLI in the world came to 53 in English, against 60 with batches at random. On large data small pools cost
    time instead: of SQuAD's and XNLI's batches 11 and 9 % would be padding, with large ones 2 %.
    """
    pool = size * (POOL if len(lengths) < LARGE * size else LARGE_POOL)
    order = torch.randperm(len(lengths), generator=generator)
    pools = [some[lengths[some].argsort(descending=True, stable=True)] for some in order.split(pool)]
    batches = [batch for some in pools for batch in some.split(size)]
    short = [batch for batch in batches if len(batch) < size]
    full = [batch for batch in batches if len(batch) == size]
    return [full[i] for i in torch.randperm(len(full), generator=generator).tolist()] + short


class EpochSampler(torch.utils.data.Sampler):
    """`length_groups` in an order that seed and epoch decide alone.

    transformers' own sampler draws from the global generator, whose state is another when a run is resumed in the
    middle of an epoch: some rows would come twice and others not at all.
    """

    def __init__(self, lengths: list[int], size: int, seed: int):
        self.lengths, self.size, self.seed, self.epoch = torch.tensor(lengths), size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self):
        return len(self.lengths)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.cat(length_groups(self.lengths, self.size, generator)).tolist())


class Dealt:
    """Each of `batches` cut into one part for every process, so that together they see the rows that one alone would
    see.

    The parts differ by one row at most, and only in the last batch of an epoch. Where that has fewer rows than there
    are processes, some come twice.
    """

    drop_last = True  # there is a part for each process always

    def __init__(self, batches, parts: int):
        self.batches, self.parts = batches, parts

    def set_epoch(self, epoch: int) -> None:
        source = getattr(self.batches, "sampler", self.batches)
        if hasattr(source, "set_epoch"):
            source.set_epoch(epoch)

    def __len__(self):
        return len(self.batches) * self.parts

    def __iter__(self):
        for batch in self.batches:
            rows = list(itertools.islice(itertools.cycle(batch), max(len(batch), self.parts)))
            for part in np.array_split(rows, self.parts):
                yield part.tolist()


def deal(loader, batches, parts: int):
    """A prepared loader that hands its process the parts of `batches` (of all processes together) that are its own."""
    shard = loader.batch_sampler  # accelerate's: of every so many batches one is this process's
    # as `sampler` accelerate tells it the epoch after a resume
    shard.batch_sampler = shard.sampler = Dealt(batches, parts)
    shard.batch_size, shard.drop_last = None, True
    return loader


def loader_options(args) -> dict:
    """What TrainingArguments say of how batches are loaded, for a DataLoader whose batches are drawn here."""
    return {
        "num_workers": args.dataloader_num_workers,
        "pin_memory": args.dataloader_pin_memory,
        "persistent_workers": args.dataloader_persistent_workers,
        "prefetch_factor": args.dataloader_prefetch_factor,
        "multiprocessing_context": args.dataloader_multiprocessing_context,
    }


def order_seed(args) -> int:
    """The seed of the order of rows: --data_seed, else --seed."""
    return args.seed if args.data_seed is None else args.data_seed
