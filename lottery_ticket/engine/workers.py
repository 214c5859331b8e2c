"""Worker processes: the members of a round trained side by side on a CPU.

A worker is `python -m lottery_ticket.engine.workers`, told what to do over its standard input and answering on its
standard output, so that a caller's own script is not imported again, as multiprocessing would. What goes through these
two pipes is pickled; nothing of it is ever on disk. A worker ends when its input does, whatever became of the caller.
"""

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any

import torch

from lottery_ticket import here, terminal
from lottery_ticket.config import Settings
from lottery_ticket.data.prepared import Data, DataInfo, prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.device import arithmetic, room_for_images
from lottery_ticket.engine.job import Member, Progress, Trained, Watch, steps
from lottery_ticket.engine.training import stacks, train
from lottery_ticket.errors import LotteryTicketError, one_line
from lottery_ticket.models.network import Network, make_network


class Workers:
    """Processes that train for this one; a context manager. Started when first needed.

    Args:
        settings: of the run, resolved: stack and jobs are numbers.
        threads: of each worker.
        info: of the data, which each worker loads for itself.
    """

    def __init__(self, settings: Settings, threads: int, info: DataInfo) -> None:
        self._settings, self._threads, self._info = settings, threads, info
        self._processes: list[subprocess.Popen[bytes]] = []
        self._answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            with contextlib.suppress(OSError):  # what was half sent
                process.stdin.close()  # type: ignore[union-attr]

    def train(
        self,
        network: Network,
        members: Sequence[Member],
        data: Data,
        settings: Settings,
        round: int,
        snapshot_at: int | None = None,
        watch: Watch | None = None,
    ) -> list[Trained]:
        """As `training.train`, the members spread over the workers, which have the network and the data themselves."""
        self._start()
        count = -(-len(members) // int(settings.stack))
        count = len(self._processes) * -(-count // len(self._processes))  # as many for each worker
        groups = stacks(members, -(-len(members) // count))
        total = steps(members, settings, len(data.train))
        waiting = list(reversed(range(len(groups))))
        at_work: dict[int, int] = {}
        done = [0] * len(groups)
        trained: dict[int, Trained] = {}

        def give(worker: int) -> None:
            if waiting:
                at_work[worker] = waiting.pop()
                group = [members[index] for index in groups[at_work[worker]]]
                self._send(worker, (group, settings, round, snapshot_at))

        for worker in range(len(self._processes)):
            give(worker)
        while len(trained) < len(members):
            worker, answer = self._answers.get()
            if isinstance(answer, str):
                raise LotteryTicketError(f"a worker process {answer}")
            group = at_work[worker]
            if isinstance(answer, Progress):
                done[group] = answer.done
                if watch:
                    watch(Progress(round, sum(done), total, answer.accuracy))
            else:
                trained |= zip(groups[group], answer, strict=True)
                give(worker)
        return [trained[index] for index in range(len(members))]

    def _start(self) -> None:
        """Start the processes if they are not running."""
        if self._processes:
            return
        environment = here.environment(OMP_NUM_THREADS=str(self._threads))
        for index in range(int(self._settings.jobs)):
            process = subprocess.Popen(
                here.python("lottery_ticket.engine.workers"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the caller, who ends them
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
            )
            self._processes.append(process)
            threading.Thread(target=self._listen, args=(index, process), daemon=True).start()
            self._send(index, (self._settings, self._threads, self._info))

    def _send(self, worker: int, message: Any) -> None:
        pipe = self._processes[worker].stdin
        assert pipe is not None
        try:
            pickle.dump(message, pipe)
            pipe.flush()
        except OSError:
            pass  # it has ended; its listener says so

    def _listen(self, index: int, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        try:
            while True:
                self._answers.put((index, pickle.load(process.stdout)))
        except Exception as error:
            if not isinstance(error, EOFError):  # no answer: something else was written there
                process.kill()
            why = " (killed; too little memory for so many --jobs?)" if process.wait() == -9 else ""
            self._answers.put((index, f"ended with status {process.returncode}{why}"))


def main() -> None:
    """What a worker does: load the data, then train what it is given until its input ends."""
    terminal.leave_signals_to_caller()
    inbox, outbox = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a user's module prints is no answer
    terminal.settle()
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(inbox, tasks), daemon=True).start()

    def answer(message: Any) -> None:
        pickle.dump(message, outbox)
        outbox.flush()

    try:
        settings, threads, info = tasks.get()
        torch.set_num_threads(threads)
        images = load_images(settings.dataset, digest=info.digest)
        if images.digest != info.digest:
            raise LotteryTicketError(f"{settings.dataset} has changed since the run began")
        device = torch.device("cpu")
        with arithmetic(settings, device):  # torch's threads are made here, as in `runs.plan.make_plan`
            room = room_for_images(device, int(settings.jobs))
            data = prepare(images, settings.validation_size, device, info, in_memory=room)
        network = make_network(settings, data.input_shape, data.classes)
        while True:
            members, settings, round, snapshot_at = tasks.get()
            answer(train(network, members, data, settings, round, snapshot_at, watch=answer))
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        if not isinstance(error, LotteryTicketError):
            traceback.print_exc()
        answer(f"failed: {one_line(error)}")


def _receive(inbox: IO[bytes], tasks: "queue.SimpleQueue[Any]") -> None:
    try:
        while True:
            tasks.put(pickle.load(inbox))
    finally:
        os._exit(1)  # the caller is gone: nobody waits for what is being trained


if __name__ == "__main__":
    main()
