"""Makes a store as a version of lt leaves it, which tests/whole/test_old_stores.py goes on with in today's version.

    PYTHONPATH=CHECKOUT python tests/old_stores/make.py

CHECKOUT is the working tree of that version (`git worktree add CHECKOUT COMMIT`): f012234 for 0.4.0, 80130b4 for 0.3.0.
The project is made at /tmp/project, which must not be there and is removed in the end; what is left is VERSION.tar.xz
beside this file. In it are

- `digits.npz`, 500 training and 200 test images of MNIST, each pixel the mean of 6×6 (4×4 pixels);
- `tiny.py` and `small.toml`, the network and the study from beside this file;
- `mlruns`, with the runs that `FC1`, `TINY` and `REWOUND` below say, a registered model, the study, a run that Ctrl-C
  ended after round 0, and one that was killed while finished rounds waited in its outbox;
- `pulled`, a ticket's folder with trained weights;
- `shown.json`, what that version said of all this; see `main`.

The figures (PNG) that runs log are left out: they are most of the bytes, and nothing reads them. The machine's name is
replaced, the databases are vacuumed. Runs have ids and times of their own: no two archives are the same.
"""

import hashlib
import json
import lzma
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HERE, PROJECT = Path(__file__).parent, Path("/tmp/project")

DATA = "--dataset digits.npz --validation-size 100 --batch-size 50"
FC1 = f"{DATA} --model fc1 --rounds 2 --iterations 60 --evaluate-every 30 --prune-rate 0.9 --arms winning"
"""Its one ticket is what is pulled, trained and registered: it needs no code of a user's."""
TINY = (
    f"{DATA} --model tiny:net --lr 0.01 --rounds 3 --iterations 200 --evaluate-every 100 "
    "--arms winning,reinit --seeds 2 --jobs 1"
)
REWOUND = (
    f"{DATA} --model tiny:net --lr 0.01 --rounds 2 --iterations 40 --evaluate-every 20 "
    "--arms winning --rewind-iteration 10"
)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors: names, types, shapes and values."""
    summed = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        summed.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        summed.update(value.contiguous().numpy().tobytes())
    return summed.hexdigest()


def machine() -> str:
    """What rounding depends on: training with equal ones gives equal bits."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{cpu}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def lt(*arguments: str) -> str:
    """What `lt` prints."""
    command = _command(*arguments)
    done = subprocess.run(command, cwd=PROJECT, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"lt {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lottery_ticket", *arguments]


def _environment() -> dict[str, str]:
    """One thread, as the tests have it, and nothing of this machine."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "LT_"))}
    return kept | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LOGNAME": "somebody", "USER": "somebody"}


def stopped(stop: Callable[[subprocess.Popen, str], None], left: Callable[[str], bool]) -> str:
    """The id of a run like `TINY` that was stopped after round 0; tried again where it did not leave what it is to."""
    before = shutil.copytree(PROJECT, PROJECT.with_name("project-before"))
    for _ in range(10):
        run_id = ""
        process = subprocess.Popen(
            _command("run", *TINY.split()),
            cwd=PROJECT,
            env=_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in process.stderr:
            if "MLflow run" in line:
                run_id = line.split()[-1]
            if line.startswith("round  0"):
                stop(process, run_id)
        if process.wait() and left(run_id):
            shutil.rmtree(before)
            return run_id
        shutil.rmtree(PROJECT)
        shutil.copytree(before, PROJECT)
    sys.exit("the run ended before it could be stopped, ten times")


def interrupt(process: subprocess.Popen, run_id: str) -> None:
    """As Ctrl-C does."""
    process.send_signal(signal.SIGINT)


def kill(process: subprocess.Popen, run_id: str) -> None:
    """While nobody can write to the database, so that what is finished waits."""
    with closing(sqlite3.connect(PROJECT / "mlruns" / "mlflow.db", timeout=10)) as database:
        database.execute("BEGIN IMMEDIATE")
        while process.poll() is None and not (PROJECT / "mlruns" / "outbox" / run_id / "01").exists():
            time.sleep(0.001)
        process.kill()


def kept(run_id: str, project: Path = PROJECT) -> tuple[list[int], list[int]]:
    """How many rounds of each trajectory of a run the store has, and which rounds wait."""
    children = "SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId' AND value = ?"
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as database:
        found = [child for (child,) in database.execute(children, [run_id])]
    counts = [len([*project.glob(f"mlruns/artifacts/*/{child}/artifacts/rounds/*/round.json")]) for child in found]
    return counts, sorted(int(path.name) for path in project.glob(f"mlruns/outbox/{run_id}/[0-9]*"))


def write_digits(path: Path) -> None:
    """MNIST, small."""
    from lottery_ticket.data import load_images

    mnist, content = load_images("mnist"), {}
    for part, count in (("train", 500), ("test", 200)):
        x = getattr(mnist, f"x_{part}")[:count, 2:26, 2:26]
        content[f"x_{part}"] = x.reshape(count, 4, 6, 4, 6).mean((2, 4)).astype(np.uint8)
        content[f"y_{part}"] = getattr(mnist, f"y_{part}")[:count].astype(np.uint8)
    np.savez(path, **content)


def predictions() -> list[list[float]]:
    """What MLflow's model of the registered ticket says of the first test images."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{PROJECT}/mlruns/mlflow.db")
    with np.load(PROJECT / "digits.npz") as data:
        return mlflow.pyfunc.load_model("models:/digits@smallest").predict(data["x_test"][:20]).tolist()


def main() -> None:
    """Make the project, note what was shown, and pack both."""
    import lottery_ticket

    version = lottery_ticket.__version__
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in jobs in the background, and inherited
    PROJECT.mkdir()
    write_digits(PROJECT / "digits.npz")
    for name in ("tiny.py", "small.toml"):
        shutil.copy(HERE / name, PROJECT)

    results = {
        name: json.loads(lt("run", *flags.split(), "--json"))
        for name, flags in (("fc1", FC1), ("tiny", TINY), ("rewound", REWOUND))
    }
    runs = {name: result["run_id"] for name, result in results.items()}
    runs["interrupted"] = stopped(interrupt, lambda run_id: kept(run_id) == ([1] * 4, []))
    runs["waiting"] = stopped(kill, lambda run_id: bool(kept(run_id)[1]))
    lt("pull", f"{runs['fc1']}:1", "pulled", "--trained")
    lt("register", f"{runs['fc1']}:1", "--name", "digits")
    lt("sweep", "small.toml", "--model", "tiny:net")

    store = f"sqlite:///{PROJECT}/mlruns/mlflow.db"
    tickets = json.loads(lt("tickets", "--json"))
    digests = {}
    for each in tickets:
        place = f"{each['run_id']}:{each['round']}:{each['arm']}-seed{each['seed']}"
        model = None if each["model"] == "fc1" else "tiny:net"
        found = lottery_ticket.Ticket.load(f"runs:/{place}", tracking_uri=store, model=model)
        parts = {"mask": found.mask, "start": found.weights, "trained": found.trained}
        digests[place] = {part: digest(tensors) for part, tensors in parts.items()}
    shown = {
        "version": version,
        "machine": machine(),
        "runs": runs,
        "waiting_rounds": kept(runs["waiting"])[1],
        "rounds": {name: result["rounds"] for name, result in results.items()},
        "verdicts": {name: result["verdict"] for name, result in results.items()},
        "tickets": tickets,
        "digests": digests,
        "predictions": predictions(),
        "study": json.loads(lt("sweep", "show", "small", "--json")),
    }
    (PROJECT / "shown.json").write_text(json.dumps(shown))
    pack(HERE / f"{version}.tar.xz")
    shutil.rmtree(PROJECT)


def pack(archive: Path) -> None:
    """The project without what is only large."""
    for path in [*PROJECT.rglob("*.png"), *PROJECT.rglob("__pycache__"), *PROJECT.glob("mlruns/figures")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for name in ("mlflow.db", "optuna.db"):
        with closing(sqlite3.connect(PROJECT / "mlruns" / name)) as database:
            if name == "mlflow.db":
                database.execute("UPDATE tags SET value = 'somewhere' WHERE key = 'lt.host'")
                database.commit()
            database.execute("VACUUM")

    def anonymous(item: tarfile.TarInfo) -> tarfile.TarInfo:
        item.uid = item.gid = 0
        item.uname = item.gname = ""
        return item

    with tarfile.open(archive, "w:xz", preset=9 | lzma.PRESET_EXTREME) as packed:
        for path in sorted(PROJECT.iterdir()):
            packed.add(path, path.name, filter=anonymous)
    print(f"{archive}: {archive.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
