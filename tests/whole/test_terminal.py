"""Terminals come and go: nobody reads the output, it has another encoding, signals end the command. Real processes."""

import os
import signal
import socket
import subprocess
import sys
from functools import partial

import pytest
from mlflow import MlflowClient

from tests.conftest import environment
from tests.help import launcher

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of Unix")


def closed_pipe():
    """As after `| head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    connect(writer)


def gone_terminal():
    """As when a terminal's window is closed and the command, under `setsid`, is not told."""
    os.setsid()
    window, terminal = os.openpty()
    connect(terminal)
    os.close(window)


def closed_socket():
    """As when another program, whose end of a socket it was, ends."""
    ours, theirs = socket.socketpair()
    theirs.close()
    connect(ours.fileno())


def closed_descriptors():
    """As after `>&- 2>&-`; the files of the run must not be taken for standard output."""
    os.close(1)
    os.close(2)


def connect(descriptor, numbers=(1, 2)):
    for number in numbers:
        os.dup2(descriptor, number)


def full_disk(number):
    connect(os.open("/dev/full", os.O_WRONLY), [number])


def encoded(encoding):
    """As PYTHONIOENCODING has it from the interpreter's start on."""
    sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, encoding, closefd=False) for n in (1, 2))


def run_with(before, arguments, folder):
    started = launcher.Started([*map(str, arguments)], folder, environment(), before)
    out, err = started.communicate(120)
    return started.returncode, out, err


def statuses(folder):
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    return {run.info.status for run in client.search_runs([e.experiment_id for e in client.search_experiments()])}


@pytest.mark.parametrize(
    "before",
    [
        gone_terminal,
        *(pytest.param(each, marks=pytest.mark.slow) for each in (closed_pipe, closed_socket, closed_descriptors)),
    ],
)
def test_output_that_nobody_reads_is_dropped_and_training_goes_on(quick_flags, tmp_path, before):
    code, *_ = run_with(before, ["run", *quick_flags, "--jobs", 1 + (before is closed_pipe)], tmp_path)
    assert code == 0
    assert statuses(tmp_path) == {"FINISHED"}


@pytest.mark.slow
def test_a_module_that_prints_to_nobody_in_a_worker_ends_nothing(quick_flags, tmp_path):
    told = "from torch import nn\ndef net():\n    print('x' * 10000, flush=True)\n"
    (tmp_path / "chatty.py").write_text(told + "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n")
    code, *_ = run_with(closed_pipe, ["run", *quick_flags, "--model", "chatty:net", "--jobs", 2], tmp_path)
    assert code == 0
    assert statuses(tmp_path) == {"FINISHED"}


def test_a_full_disk_takes_no_progress_but_ends_no_training(quick_flags, tmp_path):
    code, out, _ = run_with(partial(full_disk, 2), ["run", *quick_flags], tmp_path)
    assert (code, statuses(tmp_path)) == (0, {"FINISHED"})
    assert "Evidence" in out


@pytest.mark.parametrize("command", [["presets"], ["presets", "show", "quick"], ["--version"]])
def test_a_result_that_a_full_disk_did_not_take_is_told(tmp_path, command):
    code, _, err = run_with(partial(full_disk, 1), command, tmp_path)
    assert (code, err) == (1, "lt: standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    "encoding",
    ["latin-1", *(pytest.param(each, marks=pytest.mark.slow) for each in ("ascii", "cp1252", "koi8-r"))],
)
def test_signs_that_an_encoding_lacks_are_replaced(quick_flags, tmp_path, encoding):
    code, out, err = run_with(partial(encoded, encoding), ["run", *quick_flags], tmp_path)
    assert code == 0, err
    assert "No winning ticket found." in out or "Smallest winning ticket" in out
    assert "? dense" in out
    assert "round  2/2" in err


def test_the_interpreter_s_own_encoding_is_met(tmp_path):
    """With the interpreter's own settings, and a name of a file system that is no text at all."""
    name = os.fsdecode(b"\xff\xfe \xe2\x82\xac.npz")
    done = subprocess.run(
        [sys.executable, "-m", "lottery_ticket", "run", "--dataset", name],
        cwd=tmp_path,
        env=environment(PYTHONIOENCODING="cp1252:strict", LC_ALL="C"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(b"lt: ")
    assert b"Traceback" not in done.stderr


def long_run(small_npz):
    return f"run --dataset {small_npz} --validation-size 200 --rounds 90 --iterations 60".split()


def hangs_up_by_default():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def ignores_hanging_up():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def read_until(process, start):
    for line in process.stderr:
        if line.startswith(start):
            return line
    raise AssertionError(f"{start!r} was not written")


@pytest.mark.parametrize(
    ("signals", "codes"),
    [
        pytest.param([signal.SIGTERM], [143], marks=pytest.mark.slow),
        pytest.param([signal.SIGHUP, signal.SIGHUP], [129], marks=pytest.mark.slow),  # as a shell does that ends
        ([signal.SIGTERM, signal.SIGHUP], [129, 143]),  # as systemd may, with the first to be noticed
    ],
)
def test_signals_end_a_run_as_ctrl_c_does(small_npz, tmp_path, signals, codes):
    process = launcher.Started(long_run(small_npz), tmp_path, environment(), hangs_up_by_default)
    run_id = read_until(process, "fc1 on").split()[-1]
    read_until(process, "round  0")
    for each in signals:
        process.send_signal(each)
    _, err = process.communicate(60)
    assert process.returncode in codes
    assert "Interrupted; finished rounds are kept. Go on with:" in err
    assert f"run --resume {run_id}" in err
    assert "Traceback" not in err
    assert statuses(tmp_path) == {"KILLED"}


@pytest.mark.slow
def test_what_hangs_up_after_nohup_ends_nothing(quick_flags, tmp_path):
    process = launcher.Started(
        ["run", *quick_flags, "--iterations", "300"], tmp_path, environment(), ignores_hanging_up
    )
    read_until(process, "round  0")
    process.send_signal(signal.SIGHUP)
    process.communicate(60)
    assert (process.returncode, statuses(tmp_path)) == (0, {"FINISHED"})
