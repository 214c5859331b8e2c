"""Names and values that are longer than the databases behind MLflow take: shortened there, whole in files."""

import shutil

import pytest
from mlflow import MlflowClient
from mlflow.entities import Param

from lottery_ticket.config import load_preset
from lottery_ticket.data.prepared import describe
from lottery_ticket.data.sources import load_images
from lottery_ticket.reproduction.jobs import Job, find
from lottery_ticket.store import connection, reading
from lottery_ticket.store.limits import PARAM, cut, may_be
from lottery_ticket.store.rounds import dataset_input
from tests.conftest import environment
from tests.help import launcher


@pytest.fixture(scope="module")
def deep(small_npz, tmp_path_factory):
    """The small data set at a path of over 600 characters."""
    folder = tmp_path_factory.mktemp("deep").joinpath("a" * 200, "b" * 200, "c" * 200)
    folder.mkdir(parents=True)
    return shutil.copy(small_npz, folder)


def test_cut():
    assert cut("a" * 10, 10) == "a" * 10
    assert cut("a" * 11, 10) == "a" * 7 + "..."
    whole = ",".join(map(str, range(10**9, 10**9 + 620)))
    for stored in (whole, whole[:6000], whole[:500], cut(whole, PARAM)):
        assert may_be(stored, whole)
    for stored in (whole[:6000].replace("9", "8"), whole + ",7", "", "..."):
        assert not may_be(stored, whole)
    assert not may_be("fc1", "fc12")


@pytest.mark.slow
def test_in_postgresql(postgres, deep, tmp_path):
    """The name of this run and its data set are too long for a column, as 84 seeds are."""
    seeds = ",".join(map(str, range(10**9, 10**9 + 3)))
    flags = f"run --dataset {deep} --validation-size 200 --rounds 2 --iterations 1 --arms winning --seeds".split()
    variables = environment(MLFLOW_TRACKING_URI=postgres)
    code, _, err = launcher.run([*flags, seeds], tmp_path, variables, 200)
    assert code == 0, err
    client = MlflowClient(postgres)
    (run,) = client.search_runs(["1"], "tags.`lt.kind` = 'run'")
    assert len(run.info.run_name) == 250
    assert run.info.run_name.endswith("...")
    assert max(map(len, run.data.params.values())) <= 500
    settings = reading.read_settings(client, run)
    assert settings.dataset == str(deep)
    code, _, err = launcher.run(["pull", f"{run.info.run_id}:1"], tmp_path, variables, 200)
    assert code == 0, err
    job = Job(settings.model_copy(update={"stack": 2}), "", [])
    find(job, client, "lottery-ticket")
    assert ([each.info.run_id for each, _ in job.runs], job.finished) == ([run.info.run_id], True)
    job = Job(settings.model_copy(update={"seeds": (*settings.seeds[:-1], 7)}), "", [])
    find(job, client, "lottery-ticket")
    assert job.untrained == {7}


@pytest.mark.parametrize("without", [(), ("frozen", "verdict_level")])
def test_a_run_whose_params_were_cut_or_are_from_before_a_setting_is_found_again(small_npz, tmp_path, without):
    """As 0.3.0 left it: MLflow cut what is longer than 6,000 characters."""
    settings = load_preset(dataset=str(small_npz), validation_size=200, seeds=tuple(range(10**9, 10**9 + 620)))
    client = connection.connect(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = client.create_run(connection.ensure_experiment(client, "mine"), tags={"lt.kind": "run"}).info.run_id
    told = {name: value for name, value in settings.as_params().items() if name not in without}
    client.log_batch(run_id, params=[Param(name, value) for name, value in told.items()])
    assert client.get_run(run_id).data.params["seeds"] == told["seeds"][:6000] != told["seeds"]
    client.log_text(run_id, settings.model_dump_json(exclude=set(without)), "settings.json")
    images = load_images(settings.dataset)
    client.log_inputs(run_id, datasets=[dataset_input(images, describe(images, settings.validation_size))])
    client.set_terminated(run_id)
    for chosen, untrained in ((settings.seeds, set()), ((*settings.seeds[:-1], 7), {7})):
        job = Job(settings.model_copy(update={"seeds": chosen}), "", [])
        find(job, client, "mine")
        assert ([run.info.run_id for run, _ in job.runs], job.untrained) == ([run_id], untrained)
    job = Job(settings.model_copy(update={"lr": 0.5}), "", [])
    find(job, client, "mine")
    assert not job.runs
