"""Fixtures: real MNIST in small, and the real command line in a folder of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psycopg
import pytest
import torch

import lottery_ticket
from lottery_ticket import Result, Ticket
from lottery_ticket.config import Settings, load_preset
from lottery_ticket.data.prepared import Data, prepare
from lottery_ticket.data.sources import load_images
from tests.help import launcher, stores

FOUND_ARMS = (
    *("winning", "reinit", "random-mask", "reinit-own", "lr-rewinding"),
    *("degree-preserving", "mask-inverted", "other-seed", "sign-only", "shuffle", "freeze", "freeze-towards-zero"),
)
"""The arms of `found`."""

MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # stores commit often, and on a disk each takes a while

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before any process is started
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in jobs in the background of a script, and inherited


@pytest.fixture(scope="session", autouse=True)
def quick_stores() -> None:
    """New MLflow stores take a moment."""
    stores.prepare()


@pytest.fixture(scope="session")
def small_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1,200 training and 400 test images of MNIST as an .npz."""
    return write_small(tmp_path_factory.mktemp("data") / "small.npz")


def write_small(path: Path) -> Path:
    """As `small_npz`, at this path."""
    mnist = load_images("mnist")
    np.savez(
        path,
        x_train=mnist.x_train[:1200],
        y_train=mnist.y_train[:1200],
        x_test=mnist.x_test[:400],
        y_test=mnist.y_test[:400],
    )
    return path


@pytest.fixture(scope="session")
def small(small_npz: Path) -> Data:
    """The small data set on the CPU, 200 of its training images held out."""
    return prepare(load_images(str(small_npz)), 200, torch.device("cpu"))


@pytest.fixture
def settings(small_npz: Path) -> Settings:
    """`quick` on the small data set: 4 rounds of 30 iterations."""
    return load_preset(dataset=str(small_npz), validation_size=200, rounds=4, iterations=30, evaluate_every=10)


@pytest.fixture(scope="session")
def found(small_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run of many arms in a store of its own, rewound so late that tickets are far better than reinit."""
    settings = load_preset(
        dataset=str(small_npz),
        validation_size=200,
        rounds=4,
        iterations=40,
        arms=FOUND_ARMS,
        seeds="0,3",
        rewind_iteration=35,
        verdict_tolerance=0.3,
        verdict_level=0.51,
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("found"))
        return lottery_ticket.run(settings, tracking_uri=f"sqlite:///{Path.cwd()}/mlflow.db")


@pytest.fixture
def store(found: Result) -> str:
    """The tracking URI of that run's store, to which tests may add runs."""
    return found.client.tracking_uri


@pytest.fixture
def ticket(found: Result, store: str) -> Ticket:
    """The ticket of round 3 of the arm `winning` in that run, with its trained weights."""
    return Ticket.load(f"runs:/{found.run_id}:3", tracking_uri=store)


@dataclass
class Done:
    """A finished `lt` process."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


Lt = Callable[..., Done]


def environment(**more: str) -> dict[str, str]:
    """The environment of a subprocess: one thread, no store or cache of the developer's own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "LT_"))}
    return kept | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "200"} | more


@pytest.fixture
def lt(tmp_path: Path) -> Lt:
    """Run the real command in an empty folder: `lt("run", "--rounds", 2)`."""

    def run(*arguments: object, timeout: float = 300, before: launcher.Before = None, **variables: str) -> Done:
        environ = environment(**variables)
        return Done(*launcher.run([*map(str, arguments)], tmp_path, environ, timeout, before))

    return run


@pytest.fixture
def quick_flags(small_npz: Path) -> list[str]:
    """Flags that make `lt run` take a second: the small data set, 3 rounds of 20 iterations."""
    return f"--dataset {small_npz} --validation-size 200 --rounds 3 --iterations 20 --evaluate-every 10".split()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen) -> None:
    """Until the server answers."""
    for _ in range(1800):
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


class Server:
    """A real tracking server with artifact proxying, on one port and one folder, that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self._port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._folder}/db"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        self._process = subprocess.Popen(
            command,
            env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(f"{self.address}/health", self._process)

    def stop(self) -> None:
        """At once, as when its machine goes down."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def tracking_server(tmp_path: Path) -> Iterator[Server]:
    """A tracking server that has not been started."""
    folder = tmp_path / "server"
    folder.mkdir()
    made = Server(folder)
    yield made
    made.stop()


@pytest.fixture
def server(tracking_server: Server) -> str:
    """A running tracking server: its address."""
    tracking_server.start()
    return tracking_server.address


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """The URL of a database of the test's own in a real PostgreSQL server."""
    name = f"of_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{postgres_server.removesuffix('postgres')}{name}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL server on loopback that asks for a password: the URL of its first database."""
    found = shutil.which("initdb") or next(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
    if found is None:
        pytest.skip("PostgreSQL is not installed: no initdb found")
    programs = Path(found).resolve().parent
    password = "s3cr{e}t @%/"
    owner = {"user": "nobody", "extra_groups": []} if os.getuid() == 0 else {}

    def call(program: str, *arguments: str) -> None:
        command = [programs / program, "-D", f"{folder}/data", *arguments]
        subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, check=True, **owner)

    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        Path(folder, "password").write_text(password)
        if owner:  # root, as whom PostgreSQL refuses to run
            for path in (folder, Path(folder, "password")):
                shutil.chown(path, "nobody")
        login = ["--username=lt", "--auth=scram-sha-256", f"--pwfile={folder}/password"]
        call("initdb", *login, "--encoding=UTF8", "--no-locale", "--no-sync")
        port = free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        call("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", options)
        yield f"postgresql://lt:{quote(password, safe='')}@127.0.0.1:{port}/postgres"
        call("pg_ctl", "stop", "-m", "immediate")
