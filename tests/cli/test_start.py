"""What is imported when: nothing slow before a wrong word is refused, and what a run needs not before it needs it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lottery_ticket
from lottery_ticket import process
from lottery_ticket.analysis.analyses import ANALYSES
from lottery_ticket.data.augment import AUGMENTATIONS
from lottery_ticket.engine.executors import EXECUTORS
from lottery_ticket.errors import InputError
from lottery_ticket.method.arms import ARMS
from lottery_ticket.method.criteria import CRITERIA
from lottery_ticket.models.network import MODELS, factory_named
from lottery_ticket.runs.known import OURS, check_name
from lottery_ticket.study.definition import SAMPLERS
from tests.conftest import environment

SLOW = ("torch", "mlflow", "matplotlib", "scipy", "pandas", "optuna", "torch._dynamo", "onnx")
COMMANDS = """
import json, sys
from lottery_ticket.cli import app
from lottery_ticket.errors import InputError
for words in json.loads(sys.argv[1]):
    try:
        app(words, standalone_mode=False)
        print(json.dumps(["done", [name for name in {slow} if name in sys.modules]]))
    except InputError as error:
        print(json.dumps([str(error), [name for name in {slow} if name in sys.modules]]))
"""
WATCHING = """
import json, sys
from torch import nn
from lottery_ticket.runs import Listener

told = []

def tell(what):
    told.append([what, [name for name in {slow} if name in sys.modules]])
    open("told.json", "w").write(json.dumps(told))

def network(input_shape, classes):
    tell("built")
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, classes))

class Told(Listener):
    def started(self, plan, run_id, done):
        tell("started")

    def rounds_finished(self, records):
        tell("round")
"""


def python(folder, code, *arguments):
    where = environment(PYTHONPATH=str(Path(lottery_ticket.__file__).parents[1]))
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=where).stdout


def test_what_is_wrong_is_refused_and_tickets_are_listed_before_anything_slow_is_imported(found, tmp_path):
    store, no_run = found.client.tracking_uri, "0" * 32
    (tmp_path / "no.npz").write_text("no archive")
    wrong = {
        "--arms": ["run", "--arms", "winning,lottery"],
        "--criterion": ["run", "--criterion", "size"],
        "--executor": ["run", "--executor", "cluster"],
        "--model": ["run", "--model", "fc9"],
        "--dataset": ["run", "--dataset", "imagenet"],
        "--dataset: 'no.npz'": ["run", "--dataset", "no.npz"],
        "--augment": ["run", "--augment", "flip,melt"],
        "--listener": ["run", "--listener", "nobody"],
        "--experiment": ["run", "--experiment", "..."],
        "--tracking-uri": ["run", "--tracking-uri", "http://127.0.0.1:9"],
        "--resume": ["run", "--resume", no_run, "--tracking-uri", store],
        "TICKET: 'tickets/none'": ["train", "tickets/none"],
        f"TICKET: '{no_run}'": ["pull", no_run, "--tracking-uri", store],
        "TICKET: 'elsewhere'": ["diff", "elsewhere", "tickets/none"],
        "--format": ["export", "tickets/none", "--format", "tflite"],
        "RUN: 'a'": ["register", "a", "--name", "b"],
        "RUN": ["figures", no_run, "--tracking-uri", store],
        "ANALYSIS": ["analyse", no_run, "overlaps", "--tracking-uri", store],
        "STUDY": ["sweep", "momentum"],
        "REPORT": ["reproduce", "nobody"],
        "KIND": ["plugins", "cars"],
        "--images": ["models", "--images", "large"],
        "NAME": ["data", "fetch", "imagenet"],
        "--tracking-uri: 'sqlite": ["tickets"],
    }
    done = wrong | {"done": ["tickets", "--tracking-uri", store]}
    output = python(tmp_path, COMMANDS.format(slow=SLOW), json.dumps([*done.values()]))
    told = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
    assert [(each, imported) for each, imported in told if imported] == []
    for (said, _), option in zip(told, done, strict=True):
        assert said.startswith(option), said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no.npz"]


@pytest.mark.slow
def test_a_run_imports_mlflow_beside_its_training_and_what_draws_at_its_end(small_npz, tmp_path):
    (tmp_path / "watching.py").write_text(WATCHING.format(slow=SLOW))
    flags = ["--dataset", str(small_npz), "--rounds", "2", "--iterations", "2", "--validation-size", "200"]
    flags += ["--model", "watching:network", "--listener", "watching:Told"]
    python(tmp_path, "import sys; sys.argv[0] = 'lt'; from lottery_ticket.cli import main; main()", "run", *flags)
    told = json.loads((tmp_path / "told.json").read_text())
    assert told[0] == ["built", ["torch"]]
    assert [what for what, _ in told if what != "built"] == ["started", "round", "round"]
    for what, imported in told:
        assert {"mlflow"} <= set(imported) or what == "built"
        assert not {"matplotlib", "optuna", "torch._dynamo", "onnx"} & set(imported)


def test_the_names_that_are_known_before_their_tables_are_imported():
    tables = {"arms": ARMS, "criteria": CRITERIA, "models": MODELS, "augmentations": AUGMENTATIONS}
    tables |= {"analyses": ANALYSES, "executors": {"auto": None} | EXECUTORS, "samplers": dict.fromkeys(SAMPLERS)}
    for check in (factory_named, lambda name: check_name("models", name, "--model")):
        with pytest.raises(InputError, match=r"unknown; did you mean 'fc1'. allowed: fc1, .*, timm:NAME, module:name"):
            check("fc")
    assert {kind: OURS[kind] for kind in tables} == {kind: tuple(table) for kind, table in tables.items()}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux")
def test_when_a_process_began():
    before = time.perf_counter()
    code = "import time; time.sleep(0.3); from lottery_ticket import process; print(process.began())"
    began = float(python(None, code))
    assert before - 0.05 < began < before + 0.25 or began < time.perf_counter() - 0.3
    assert process.began() < before
