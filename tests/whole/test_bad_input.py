"""Bad input through the real command line: one line that names the option and what is allowed, exit 2, no trace."""

import io
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

import lottery_ticket
from lottery_ticket.cli import main
from lottery_ticket.data import sources
from lottery_ticket.errors import InputError
from lottery_ticket.store.connection import connect, ensure_experiment
from tests.conftest import Done, environment

GOOD = {
    "x_train": np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4),
    "y_train": np.arange(20) % 4,
    "x_test": np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4),
    "y_test": np.arange(8) % 4,
}


def npz(**changed):
    """The bytes of a small .npz with arrays replaced, or left out where None."""
    buffer = io.BytesIO()
    np.savez(buffer, **{key: value for key, value in (GOOD | changed).items() if value is not None})
    return buffer.getvalue()


def raw_members():
    """A zip archive with the right names, but without arrays in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key in GOOD:
            archive.writestr(key, b"no array")
    return buffer.getvalue()


def encrypted():
    """A good .npz whose directory says that its first member is encrypted."""
    whole = bytearray(npz())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    return bytes(whole)


def bomb():
    """A good .npz whose directory says that each member unpacks to almost 4 GiB."""
    whole = bytearray(npz())
    at = whole.index(b"PK\x01\x02")
    while at >= 0:
        whole[at + 24 : at + 28] = (2**32 - 16).to_bytes(4, "little")
        at = whole.find(b"PK\x01\x02", at + 4)
    return bytes(whole)


def lying():
    """An .npz with an array that says it has 2⁴⁰ elements."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for key, value in GOOD.items():
            member = io.BytesIO()
            shape = (2**40,) if key == "x_train" else value.shape
            header = {"descr": np.lib.format.dtype_to_descr(value.dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            archive.writestr(f"{key}.npy", member.getvalue() + value.tobytes())
    return whole.getvalue()


NPZ_FILES = {
    "good.npz": npz(),
    "flat.npz": npz(x_train=np.zeros((20, 5), np.float32), x_test=np.zeros((8, 5), np.float32)),
    "missing.npz": npz(y_test=None),
    "unequal.npz": npz(y_train=np.arange(19) % 4),
    "empty.npz": npz(x_test=np.zeros((0, 4, 4), np.uint8), y_test=np.zeros(0, int)),
    "no-pixels.npz": npz(x_train=np.zeros((20, 4, 0), np.uint8), x_test=np.zeros((8, 4, 0), np.uint8)),
    "float64.npz": npz(x_train=GOOD["x_train"] / 255),
    "float-labels.npz": npz(y_train=GOOD["y_train"] / 2),
    "far-labels.npz": npz(**{key: GOOD[key] + 10**6 for key in ("y_train", "y_test")}),
    "below-0.npz": npz(**{key: GOOD[key] - 9 for key in ("y_train", "y_test")}),
    "1-d.npz": npz(x_train=np.zeros(20, np.uint8)),
    "nan.npz": npz(x_test=np.full((8, 4, 4), np.nan, np.float32)),
    "two-shapes.npz": npz(x_test=np.zeros((8, 5, 5), np.uint8)),
    "negative.npz": npz(y_train=np.arange(20) % 4 - 1),
    "out-of-range.npz": npz(y_test=np.arange(8) % 5),
    "pickled.npz": npz(x_train=np.array([None] * 20, object)),
    "truncated.npz": npz()[:-100],
    "text.npz": b"x_train y_train x_test y_test\n",
    "folder.npz": None,
    "raw-members.npz": raw_members(),
    "encrypted.npz": encrypted(),
    "bomb.npz": bomb(),
    "lying.npz": lying(),
}
FILES = NPZ_FILES | {
    "invalid.toml": b"lr = = 1\n",
    "key.toml": b"prune_rte = 0.1\n",
    "preset.toml": b'preset = "shu-fc2"\n',
    "value.toml": b"lr = -1\n",
    "bool.toml": b"rounds = true\n",
    "latin-1.toml": 'model = "é"\n'.encode("latin-1"),
    "folder.toml": None,
    "huge.toml": b"#" * (2**20 + 1),
    "deep.toml": b"a = " + b"[" * 100_000,
    "a-file": b"",
    "no-database.db": b"no database\n" * 100,
}

MINE = """
import sys
import warnings
import torch
from torch import nn

number = 1
def raises(): raise ValueError("two\\nlines")
def exits(): sys.exit("ends")
def no_module(): return 1
def no_weights(input_shape): return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.AdaptiveAvgPool1d(4))
def other_shape(): return nn.Sequential(nn.Flatten(), nn.Linear(15, 4))
def outputs(): return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
def images(): return nn.Conv2d(1, 4, 3)
def wants(more): return nn.Linear(16, 4)
def scripted():
    with warnings.catch_warnings(action="ignore"):
        return nn.Sequential(nn.Flatten(), torch.jit.script(nn.Linear(16, 4)))
def frozen(): return nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).requires_grad_(False)
class Two(nn.Linear):
    def forward(self, x): return {"scores": super().forward(x.flatten(1)), "features": x}
def two(): return Two(16, 4)
"""

RATE = "a number > 0 and < 1"
COUNT = "a whole number ≥ 1"
LABELS = "allowed: 0 to 3"
NPZ_KEYS = "allowed: an .npz with x_train, y_train, x_test, y_test"
SEEDS = "a count (3) or whole numbers separated by commas (0,7,9)"
MODEL = "run --validation-size 5 --dataset good.npz --model"
RUN = "run --validation-size 5 --dataset good.npz --rounds 2 --iterations 1"

# (arguments, what the message must name, what it must say); a file of FILES that is named is there
CASES = [
    # names
    ("run --preset shu-fc2", "--preset: 'shu-fc2'", "did you mean 'shu-fc1'? allowed: quick, "),
    (f"{MODEL} fc2", "--model: 'fc2'", "did you mean 'fc1'? allowed: fc1, lenet5, "),
    ("run --dataset minst", "--dataset: 'minst'", "did you mean 'mnist'? allowed: mnist, fashion-mnist, "),
    ("run --arms winning,renit", "--arms: 'renit'", "did you mean 'reinit'? allowed: winning, reinit, "),
    ("run --arms reinit", "--arms: 'reinit'", "allowed: winning beside it"),
    ("run --arms winning,winning", "--arms: 'winning,winning'", "each once"),
    ("run --device gpu", "--device: 'gpu'", "auto, cpu"),
    ("run --optimizer rmsprop", "--optimizer: 'rmsprop'", "adam, adamw, sgd, sgd-nesterov"),
    ("run --precision float16", "--precision: 'float16'", "float32, tf32, bfloat16"),
    (f"{RUN} --precision tf32 --device cpu", "--precision: 'tf32'", "allowed on cpu: float32, bfloat16"),
    # numbers
    *[
        (f"run {option} {value}", f"{option}: '{value}'", RATE)
        for option in ("--prune-rate", "--prune-rate-conv", "--prune-rate-output")
        for value in ("0", "1", "-0.1", "nan", "some")
    ],
    ("run --scope global --prune-rate-conv 0.1", "--prune-rate-conv: 0.1", "allowed: none"),
    *[(f"run --rounds {value}", f"--rounds: '{value}'", COUNT) for value in ("0", "-1", "1.5", "many")],
    ("run --epochs 0", "--epochs: '0'", COUNT),
    ("run --iterations 0", "--iterations: '0'", COUNT),
    ("run --epochs 1 --iterations 1", "--iterations: 1", "beside --epochs 1; allowed: exactly one of the two"),
    ("run --validation-size 60000", "--validation-size: 60000", "fewer than the 60000 training images"),
    ("run --validation-size -1", "--validation-size: '-1'", "a whole number ≥ 0"),
    *[(f"run --lr {value}", f"--lr: '{value}'", "a number > 0") for value in ("0", "-1", "nan", "inf", "fast")],
    ("run --batch-size 0", "--batch-size: '0'", COUNT),
    ("run --stack 0", "--stack: '0'", "auto or a whole number ≥ 1"),
    *[(f"run --jobs {value}", f"--jobs: '{value}'", "auto or a whole number ≥ 1") for value in ("0", "1.5", "all")],
    ("run --momentum 0.9", "--momentum: 0.9", "allowed with adam: 0"),
    ("run --optimizer adamw --momentum 0.9", "--momentum: 0.9", "allowed with adamw: 0"),
    ("run --optimizer sgd-nesterov", "--momentum: 0.0", "is not enough for sgd-nesterov; allowed: a number > 0"),
    ("run --seeds 0,0", "--seeds: '0,0'", "each once"),
    *[(f"run --seeds {value}", f"--seeds: '{value}'", SEEDS) for value in ("0", "x", "-1", "0,-1", "1001", ",")],
    (
        "run --validation-size 5 --dataset good.npz --epochs 1 --rewind-iteration 2",
        "--rewind-iteration: 2",
        "allowed: fewer than the 1 iterations of a round",
    ),
    # .npz files
    ("run --dataset absent.npz", "--dataset: 'absent.npz'", NPZ_KEYS),
    ("run --dataset missing.npz", "--dataset: 'missing.npz'", "lacks y_test; " + NPZ_KEYS),
    ("run --dataset unequal.npz", "--dataset: 'unequal.npz'", "20 images and 19 labels"),
    ("run --dataset empty.npz", "--dataset: 'empty.npz'", "0 labels in test; allowed: equally many, at least 1"),
    ("run --dataset no-pixels.npz --validation-size 0", "--dataset: 'no-pixels.npz'", "allowed: "),
    ("run --dataset float64.npz", "--dataset: 'float64.npz'", "x_train of fractions and x_test of whole"),
    ("run --dataset float-labels.npz", "--dataset: 'float-labels.npz'", "no whole numbers; allowed: N integer labels"),
    ("run --dataset 1-d.npz", "--dataset: '1-d.npz'", "allowed: uint8 or float32, N×H×W, N×H×W×C or N×D"),
    ("run --dataset nan.npz", "--dataset: 'nan.npz'", "x_test with values that are not finite"),
    ("run --dataset two-shapes.npz", "--dataset: 'two-shapes.npz'", "allowed: one shape"),
    ("run --dataset negative.npz", "--dataset: 'negative.npz'", "labels -1 to 2 in train; allowed: 0 to 2"),
    ("run --dataset far-labels.npz", "--dataset: 'far-labels.npz'", "1000003 in train; allowed: the classes from 0 on"),
    ("run --dataset below-0.npz", "--dataset: 'below-0.npz'", "labels -9 to -6 in train; allowed: the classes from 0"),
    ("run --dataset out-of-range.npz", "--dataset: 'out-of-range.npz'", "labels 0 to 4 in test; " + LABELS),
    *[
        (f"run --dataset {name}.npz", f"--dataset: '{name}.npz'", NPZ_KEYS)
        for name in ("pickled", "truncated", "text", "folder", "raw-members", "encrypted")
    ],
    (
        "run --dataset bomb.npz",
        "--dataset: 'bomb.npz'",
        "declares 17,179,869,120 bytes; allowed: at most 67,108,864 in a file of ",
    ),
    ("run --dataset lying.npz", "--dataset: 'lying.npz'", "declares 1,099,511,628,"),
    # models
    (f"{MODEL} absent:make", "--model: 'absent:make'", "No module named 'absent'"),
    (f"{MODEL} mine:absent", "--model: 'mine:absent'", "no attribute 'absent'"),
    (f"{MODEL} mine:number", "--model: 'mine:number'", "allowed: a function or class that makes a module"),
    (f"{MODEL} mine:raises", "--model: 'mine:raises'", "data of shape (1, 4, 4): ValueError: two lines"),
    (f"{MODEL} mine:exits", "--model: 'mine:exits'", "data of shape (1, 4, 4): SystemExit: ends"),
    (f"{MODEL} mine:wants", "--model: 'mine:wants'", "missing 1 required positional argument: 'more'"),
    (f"{MODEL} mine:no_module", "--model: 'mine:no_module'", "returned a int; allowed: a torch.nn.Module"),
    (f"{MODEL} mine:no_weights", "--model: 'mine:no_weights'", "allowed: a module that multiplies its input"),
    (f"{MODEL} mine:other_shape", "--model: 'mine:other_shape'", "does not take data of shape (1, 4, 4)"),
    (f"{MODEL} mine:outputs", "--model: 'mine:outputs'", "(2, 3) for 2 images; allowed: one score for each of 4"),
    (f"{MODEL} mine:images", "--model: 'mine:images'", "allowed: one score for each of 4 classes"),
    (f"{MODEL} mine:scripted", "--model: 'mine:scripted'", "its 1 is made by torch.jit; allowed: the module from"),
    (f"{MODEL} mine:frozen", "--model: 'mine:frozen'", "no prunable weights (1.weight is frozen); allowed: "),
    (f"{MODEL} mine:two", "--model: 'mine:two'", "returns a dict of scores, features in training; allowed: one tensor"),
    (
        f"{MODEL} fc1 --keep-dense fc1.wight",
        "--keep-dense: 'fc1.wight'",
        "names nothing in the network; nearest to it: fc1.weight, ",
    ),
    (f"{MODEL} fc1 --keep-dense *", "--keep-dense: '*'", "leaves nothing to prune"),
    (
        f"{MODEL} fc1 --prune-only fc1.bias",
        "--prune-only: 'fc1.bias'",
        "cannot be pruned: fc1.bias is in no matrix product",
    ),
    (
        f"{MODEL} fc1 --output-layer outptu",
        "--output-layer: 'outptu'",
        "nearest to it: output, ",
    ),
    (
        f"{MODEL} fc1 --keep-dense output.* --prune-rate-output 0.1",
        "--prune-rate-output: 0.1",
        "the output layer (output.weight) stays dense; allowed: none",
    ),
    ("run --validation-size 5 --dataset flat.npz --model lenet5", "--model: 'lenet5'", "data of shape (5,)"),
    # config files
    ("run --config absent.toml", "--config: 'absent.toml'", "does not exist; allowed: a TOML file"),
    ("run --config folder.toml", "--config: 'folder.toml'", "is no file; allowed: a TOML file"),
    ("run --config /dev/zero", "--config: '/dev/zero'", "is no file; allowed: a TOML file"),
    (f"{MODEL} fc1 --rounds 100001", "--rounds: '100001'", "allowed: a whole number ≥ 1 and ≤ 100000"),
    (f"{MODEL} fc1 --batch-size 100000000000000000000", "--batch-size", "allowed: "),
    (
        "run --validation-size 5 --dataset good.npz --experiment ..",
        "--experiment: '..'",
        "is no name; allowed: text other than dots",
    ),
    ("run --config huge.toml", "--config: 'huge.toml'", "1,048,577 bytes; allowed: a TOML file of at most 1,048,576"),
    ("run --config deep.toml", "--config: 'deep.toml'", "is not valid TOML (maximum recursion depth"),
    ("sweep /dev/zero.toml", "STUDY: '/dev/zero.toml'", "does not exist; allowed: a TOML file"),
    ("sweep lr --experiment .", "--experiment: '.'", "is no name; allowed: text other than dots"),
    ("reproduce deep.toml", "REPORT: 'deep.toml'", "is not valid TOML (maximum recursion depth"),
    ("run --config latin-1.toml", "--config: 'latin-1.toml'", "utf-8"),
    (
        "run --config invalid.toml",
        "--config: 'invalid.toml'",
        "is not valid TOML (Invalid value (at line 1, column 6))",
    ),
    ("run --config key.toml", "key.toml: key: 'prune_rte'", "did you mean 'prune_rate'?"),
    ("run --config preset.toml", "preset.toml: preset: 'shu-fc2'", "did you mean 'shu-fc1'?"),
    ("run --config value.toml", "value.toml: lr: -1", "a number > 0"),
    ("run --config bool.toml", "bool.toml: rounds: True", COUNT),
    # commands
    ("run --prune-rat 0.1", "--prune-rat ", "--prune-rate"),
    ("run --lr", "'--lr'", "requires an argument"),
    ("run quick", "(quick)", "unexpected extra argument"),
    ("rnu", "'rnu'", "See lt --help"),
    ("presets show nope", "NAME: 'nope'", "allowed: quick, "),
    ("presets show", "'name'", "Missing argument"),
    ("data fetch nope", "NAME: 'nope'", "allowed: mnist, fashion-mnist, kmnist, cifar10, cifar100, svhn"),
    ("data fetch mnist", "NAME: 'mnist'", "is packaged and needs no fetching; allowed: the others"),
    ("run --resume abc --lr 0.1", "--lr: '0.1'", "allowed: the run's own settings"),
    ("run --resume abc --preset quick", "--preset: 'quick'", "allowed: the run's own settings"),
    ("run --resume abc --experiment other", "--experiment: 'other'", "allowed: the run's own settings"),
    (
        "run --resume abc",
        "--tracking-uri: 'sqlite:///mlruns/mlflow.db'",
        "is not there: nothing was run in this folder yet; allowed: a store that",
    ),
    (
        "figures abc",
        "--tracking-uri: 'sqlite:///mlruns/mlflow.db'",
        "is not there: nothing was run in this folder yet; allowed: a store that",
    ),
    (
        "ui",
        "--tracking-uri: 'sqlite:///mlruns/mlflow.db'",
        "is not there: nothing was run in this folder yet; allowed: a store that",
    ),
    *[
        (f"ui --port {value}", f"--port: {value}", "allowed: a free port from 1 to 65535")
        for value in ("0", "70000", "{silent}")
    ],
    ("ui --port http", "'--port'", "valid integer"),
    # stores
    (f"{RUN} --tracking-uri foo://x", "--tracking-uri: 'foo://x'", "allowed: a tracking server's or database's"),
    (f"{RUN} --tracking-uri sqlite:///a-file/x.db", "--tracking-uri: 'sqlite:///a-file/x.db'", "a writable path"),
    (f"{RUN} --tracking-uri sqlite:///no-database.db", "--tracking-uri: 'sqlite:///no-database.db'", "not a database"),
    (f"{RUN} --tracking-uri http://", "--tracking-uri: 'http://'", "allowed: a tracking server's or database's"),
    *[
        (f"{RUN} --tracking-uri http://127.0.0.1:{{{port}}}", f"--tracking-uri: 'http://127.0.0.1:{{{port}}}'", said)
        for port, said in {"closed": "refused", "silent": "not answer", "busy": "503", "stuck": "allowed: "}.items()
    ],
]


class Unwell(BaseHTTPRequestHandler):
    """`busy`: always 503; `stuck`: answers /health and then nothing more."""

    def do_GET(self):
        if self.server.kind == "stuck" and self.path != "/health":
            self.server.over.wait()
        self.send_response(200 if self.path == "/health" and self.server.kind == "stuck" else 503)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def ports():
    """Ports: nobody listens at `closed`; `silent` takes connections and says nothing; `busy`, `stuck`: see Unwell."""
    over = threading.Event()
    with ExitStack() as held:
        closed = held.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        silent = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        found = {"closed": closed.getsockname()[1], "silent": silent.getsockname()[1]}
        for kind in ("busy", "stuck"):
            server = held.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Unwell))
            server.kind, server.over = kind, over
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            held.callback(server.shutdown)
            found[kind] = server.server_port
        held.callback(over.set)
        yield found


MNIST = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


# Most of the table's errors come after seconds of imports. Those of its lines run in a process forked off one that
# has imported everything (where there is no fork: in a new process), all others as `python -m lottery_ticket`.
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
FORKING = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    FORKING.set_forkserver_preload(
        ["tests.help.preloaded"]
    )  # one process serves all contexts: as in tests/help/launcher.py


def enter_command(folder, arguments, out, err):
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    variables = environment()
    os.environ.clear()
    os.environ.update(variables)
    sys.dont_write_bytecode = True
    sys.argv = ["lt", *arguments]
    main()


@pytest.fixture
def forked(tmp_path, tmp_path_factory):
    """As `lt`, in a process that has done its imports."""

    def run(*arguments, timeout):
        folder = tmp_path_factory.mktemp("streams")
        out, err = folder / "out", folder / "err"
        process = FORKING.Process(target=enter_command, args=(tmp_path, arguments, out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            pytest.fail(f"not done after {timeout} s")
        return Done(process.exitcode, out.read_text("utf-8"), err.read_text("utf-8"))

    return run


def check(done: Done, named: str, said: str):
    assert done.err.startswith("lt: "), done.err
    assert len(done.err.splitlines()) == 1
    assert "Traceback" not in done.err
    assert named in done.err
    assert said in done.err
    assert done.out == ""
    assert done.code == 2


def entries(folder: Path):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(("arguments", "named", "said"), CASES, ids=[case[0] for case in CASES])
def test_one_line(lt, forked, tmp_path, ports, arguments, named, said):
    arguments, named = arguments.format(**ports), named.format(**ports)
    for name, content in FILES.items():
        if name in arguments and content is None:
            (tmp_path / name).mkdir()
        elif name in arguments:
            (tmp_path / name).write_bytes(content)
    (tmp_path / "mine.py").write_text(MINE)
    before = entries(tmp_path)
    begun = time.monotonic()
    command = forked if ".npz" in arguments else lt
    check(command(*arguments.split(), timeout=60), named, said)
    assert "http:" not in arguments or time.monotonic() - begun < 30  # 10 s, and the start of Python at its slowest
    assert entries(tmp_path) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device(lt, tmp_path):
    check(lt("run", "--device", "cuda"), "--device: 'cuda'", "allowed on this machine: auto, cpu")
    assert entries(tmp_path) == []


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A store with a run that `lt run` did not make: its file and the run's id."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    client = MlflowClient(f"sqlite:///{file}")
    return file, client.create_run(client.create_experiment("another")).info.run_id


@pytest.mark.parametrize(
    ("arguments", "option"), [("run --resume {}", "--resume"), ("figures {}", "RUN")], ids=["resume", "figures"]
)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [("", "was not made by `lt run`"), ("0" * 32, "is no run in sqlite:"), ("../../0", "is no run in sqlite:")],
)
def test_run_that_lt_did_not_make(lt, tmp_path, foreign, arguments, option, wrong, said):
    file, run_id = foreign
    run_id = wrong or run_id
    (tmp_path / "mlruns").mkdir()
    shutil.copy(file, tmp_path / "mlruns" / "mlflow.db")
    before = entries(tmp_path)
    done = lt(*arguments.format(run_id).split())
    check(done, f"{option}: '{run_id}' ", said)
    assert "allowed: the id of a run that `lt run` or `lt train` made" in done.err
    assert entries(tmp_path) == before


def test_a_run_that_was_killed_as_it_was_made(lt, tmp_path):
    (tmp_path / "mlruns").mkdir()
    client = connect(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    run_id = client.create_run(ensure_experiment(client, "lottery-ticket"), tags={"lt.kind": "run"}).info.run_id
    done = lt("run", "--resume", run_id)
    assert (done.code, done.err) == (1, f"lt: run {run_id} ended before anything of it was kept; start it again\n")


def test_ui_experiment_that_is_not_there(lt, tmp_path, foreign):
    check(
        lt("ui", "--experiment", "mine", "--tracking-uri", f"sqlite:///{foreign[0]}"), "--experiment: 'mine'", "another"
    )
    assert entries(tmp_path) == []


@pytest.fixture
def damaged(tmp_path):
    """A copy of the package in which one bit of a file of MNIST is another."""

    def damage(name):
        package = tmp_path / "lottery_ticket"
        shutil.copytree(Path(lottery_ticket.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        file = package / "shipped" / "mnist" / name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        return file

    return damage


@pytest.mark.parametrize("name", [f"{part}-ubyte.gz" for part in MNIST])
def test_damaged_mnist(damaged, monkeypatch, name):
    file = damaged(name)
    monkeypatch.setattr(sources.shipped, "folder", lambda which: file.parent)
    with pytest.raises(InputError, match=f"--dataset: 'mnist' is damaged: {file} "):
        sources.load_images("mnist")


@pytest.mark.slow
def test_damaged_mnist_is_one_line(damaged, tmp_path):
    file = damaged("t10k-labels-idx1-ubyte.gz")
    before = entries(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "lottery_ticket", "run"],
        cwd=tmp_path,
        env=environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    check(Done(done.returncode, done.stdout, done.stderr), "--dataset: 'mnist' is damaged", str(file))
    assert entries(tmp_path) == before
