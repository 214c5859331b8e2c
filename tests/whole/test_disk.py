"""A disk that fills up in the middle of a run, and a folder that cannot be written."""

import subprocess

import pytest
from mlflow import MlflowClient

from tests.conftest import environment
from tests.help import launcher
from tests.help.outcomes import outcome

FLAGS = "run --validation-size 200 --rounds 6 --iterations 80 --arms winning,reinit --dataset"


@pytest.fixture
def disk(tmp_path):
    """A file system of 24 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk):
    """Until nothing more fits."""
    with open(disk / "ballast", "wb", buffering=0) as file:
        for size in (2**20, 2**12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


@pytest.mark.slow
def test_a_full_disk_damages_nothing_and_the_run_goes_on_when_there_is_room(lt, small_npz, disk, tmp_path):
    flags = [*FLAGS.split(), str(small_npz)]
    undisturbed = lt(*flags, "--json")
    assert undisturbed.code == 0, undisturbed.err
    process = launcher.Started(flags, disk, environment(LT_TRACKING_PATIENCE="1"))
    told = ""
    for line in process.stderr:
        told += line
        if line.startswith("round  1"):
            break
    fill(disk)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, told + err
    last = err.strip().splitlines()[-1]
    assert "space" in last or "full" in last, err
    assert "Traceback" not in err
    (disk / "ballast").unlink()
    run_id = next(line.split()[-1] for line in told.splitlines() if "MLflow run" in line)
    again = launcher.run(["run", "--resume", run_id], disk, environment(), 200)
    assert again[0] == 0, again
    stores = [MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db") for folder in (disk, tmp_path)]
    assert outcome(stores[0], run_id) == outcome(stores[1], undisturbed.json["run_id"])


def test_a_folder_that_cannot_be_written(small_npz, disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, out, err = launcher.run([*FLAGS.split(), str(small_npz)], disk, environment(), 60)
    assert code == 2, out + err
    assert len(err.strip().splitlines()) == 1
    assert "--tracking-uri" in err
    assert "cannot be written" in err
