"""A listener that writes a diary beside the run."""

from pathlib import Path

from lottery_ticket.runs import Listener


class Diary(Listener):
    """A line for each finished round, in `diary.txt`."""

    def rounds_finished(self, records) -> None:
        """Note the round."""
        with Path("diary.txt").open("a") as diary:
            diary.write(f"{records[0].round}: {records[0].weights_remaining_pct:.1f} % left\n")
