"""Training in worker processes: the same results, and no process left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from lottery_ticket.engine.job import Member
from lottery_ticket.engine.training import train
from lottery_ticket.engine.workers import Workers
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.models.network import make_network
from tests.conftest import environment
from tests.help import launcher
from tests.help.outcomes import VARYING


@pytest.fixture
def group(settings, small):
    """Settings for two processes, a network and five members of it."""
    settings = settings.model_copy(update={"jobs": 2, "stack": 2})
    network = make_network(settings, small.input_shape, small.classes)
    mask = network.dense_mask()
    return settings, network, [Member("winning", seed, mask, network.draw(seed, "init")) for seed in range(5)]


def test_workers_train_as_this_process_does(small, group):
    settings, network, members = group
    told, last = [], {}
    with Workers(settings, 1, small.info) as workers:
        for round_ in (0, 1):
            there = workers.train(network, members, small, settings, round_, 7, told.append)
            here = train(network, members, small, settings, round_, 7)
            for one, other in zip(there, here, strict=True):
                assert one.curve == other.curve
                assert all(torch.equal(one.weights[name], value) for name, value in other.weights.items())
                assert all(torch.equal(one.snapshot[name], value) for name, value in other.snapshot.items())
    for progress in told:
        assert progress.done <= 5 * settings.iterations
        last |= progress.accuracy
    assert max(progress.done for progress in told) == 5 * settings.iterations
    assert last == {("winning", seed): one.curve[-1].test_accuracy for seed, one in enumerate(here)}


def test_a_worker_that_dies_is_reported(small, group):
    settings, network, members = group
    settings = settings.model_copy(update={"iterations": 100_000})
    with Workers(settings, 1, small.info) as workers:

        def kill(progress):
            workers._processes[1].kill()

        with pytest.raises(LotteryTicketError, match="a worker process ended with status -9"):
            workers.train(network, members, small, settings, 0, None, kill)
        processes = workers._processes
    assert all(process.returncode is not None for process in processes)


def test_what_a_worker_cannot_do_is_reported(small, group):
    settings, network, members = group
    with (
        Workers(settings, 1, small.info.model_copy(update={"digest": "another"})) as workers,
        pytest.raises(LotteryTicketError, match=r"a worker process failed: .* has changed since the run began"),
    ):
        workers.train(network, members, small, settings, 0)


def timeless(done):
    """The rounds of a finished command without their times."""
    return [{k: v for k, v in r.items() if k not in VARYING} for r in done.json["rounds"]]


@pytest.mark.slow
def test_the_command_trains_in_processes_and_says_so(lt, quick_flags, tmp_path):
    flags = [*quick_flags, "--seeds", 2, "--stack", 1]
    two = lt("run", *flags, "--jobs", 2, "--json")
    assert "1 of 4 networks at a time in each of 2 processes" in two.err
    one = lt("run", *flags, "--json")
    assert "1 of 4 networks at a time; " in one.err
    assert timeless(two) == timeless(one)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    tags = client.get_run(two.json["run_id"]).data.tags
    assert {name: tags[f"lt.{name}"] for name in ("device", "stack", "jobs")} == {
        "device": "cpu",
        "stack": "1",
        "jobs": "2",
    }


def children(pid):
    """The processes whose parent this is (the fourth field of their stat, after the name in brackets)."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat")]
    return [int(stat.split()[0]) for stat in stats if int(stat.rpartition(")")[2].split()[1]) == pid]


def gone(pids, seconds=20):
    """Whether all these processes end within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_worker_outlives_the_command(small_npz, tmp_path, how):
    flags = f"run --dataset {small_npz} --validation-size 200 --rounds 3 --iterations 2000 --jobs 2".split()
    process = launcher.Started(flags, tmp_path, environment())
    for line in process.stderr:
        if line.startswith("round  0"):
            break
    workers = children(process.pid)
    assert len(workers) == 2
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if how == signal.SIGKILL else 128 + how)
    assert gone(workers)
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_bar_shows_arms_that_are_trained_one_after_another(tmp_path, quick_flags):
    """On a terminal, where the accuracies of each stack arrive on their own."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lottery_ticket", "run", *quick_flags, "--stack", "1"],
        cwd=tmp_path,
        env=environment(TERM="xterm"),
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # what reading raises when the other side is closed
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    assert process.wait(timeout=60) == 0, shown.decode()
    assert re.search(rb"winning \d+\.\d\d %.*reinit \d+\.\d\d %", shown)
