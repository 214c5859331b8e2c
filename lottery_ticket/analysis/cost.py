"""What tickets cost in multiply-adds, over the seeds and in words."""

from collections.abc import Sequence

from lottery_ticket.record import Cost, Record

_SUFFIXES = ("", "k", "M", "G", "T", "P", "E")


def in_short(count: float) -> str:
    """A number of multiply-adds in three digits: 266k, 1.27T."""
    for suffix in _SUFFIXES[:-1]:
        if count < 999.5:
            return f"{count:.3g}{suffix}"
        count /= 1000
    return f"{count:.3g}{_SUFFIXES[-1]}"


def costs(records: Sequence[Record]) -> list[Cost]:
    """What each of the records cost; empty unless all tell it."""
    found = [record.cost for record in records if record.cost]
    return found if len(found) == len(records) else []


def sparse_in_short(records: Sequence[Record]) -> str:
    """Multiply-adds of an image over the survivors, the mean of the records; a dash where one does not tell."""
    each = [cost.an_image.sparse for cost in costs(records)]
    return in_short(sum(each) / len(each)) if each else "–"


def ticket_in_words(records: Sequence[Record], index: int) -> str:
    """What an image costs the ticket of a round, and what it took to find; empty where that is not known.

    Args:
        records: of a run.
        index: the round.
    """
    trunk = [record for record in records if record.arm == "winning" and not record.diverged]
    mine = costs([record for record in trunk if record.round == index])
    dense = costs([record for record in trunk if record.round == 0])
    if not mine:
        return ""
    sparse = in_short(_mean([cost.an_image.sparse for cost in mine]))
    told = f"Multiply-adds of an image: {in_short(mine[0].an_image.dense)} dense, {sparse} over its survivors"
    small = [cost.compact for cost in mine if cost.compact is not None]
    if len(small) == len(mine):
        told += f", {in_short(_mean(small))} made small"
    sums = [cost.to_find for cost in mine if cost.to_find is not None]
    if index and dense and len(sums) == len(mine):
        spent, once = _mean(sums), _mean([cost.round.dense for cost in dense])
        told += f"; to find it: {in_short(spent)}, {spent / once:.3g} × the dense network's training"
    return f"{told}."


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)
