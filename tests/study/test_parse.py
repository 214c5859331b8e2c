"""Studies as files: what they may say, and what is said of a wrong one – through the real command line."""

import json

import optuna
import pytest

from lottery_ticket.errors import InputError
from lottery_ticket.store import connection
from lottery_ticket.study import storage as study_storage
from lottery_ticket.study.opened import _as_begun, open_study
from lottery_ticket.study.parse import load_study, parse, study_names

GOOD = """trials = 2
sampler = "grid"

[space]
lr = { low = 1e-3, high = 1e-1, log = true, points = 4 }
"""


@pytest.mark.parametrize("name", ["lr", "map", "prune-rate", "tuned"])
def test_shipped_studies(name):
    assert name in study_names()
    study = load_study(name)
    assert study.name == name
    assert len(study.settings_of({}).seeds) >= 2
    assert study.sampler == ("boundary" if name == "map" else "grid")


def test_options_go_over_the_file():
    study = load_study("lr", trials=3, iterations="7", rounds="2", seeds="5")
    settings = study.settings_of({"lr": 0.1})
    assert (study.trials, settings.iterations, settings.epochs, settings.rounds) == (3, 7, None, 2)
    assert settings.seeds == (0, 1, 2, 3, 4)
    assert settings.lr == 0.1
    rate = load_study("prune-rate", rounds="2")  # which its file leaves to the density
    assert rate.settings_of({"prune_rate": 0.05}).rounds == 2


def test_the_definition_is_what_makes_two_studies_the_same():
    def study(text=GOOD, **settings):
        import tomllib

        return parse("mine.toml", tomllib.loads(text), {}, settings).definition()

    assert study() == study(GOOD.replace("trials = 2", "trials = 9\nbatch = 1\ntimeout = 5.0"), device="cpu", jobs="2")
    assert study() == study(GOOD.replace('"grid"', '"tpe"'))
    assert study() != study(epochs="3")
    assert study() != study(precision="bfloat16")
    assert study()["space.lr.high"] == "0.1"


WRONG = [
    ("lr", "lrr", "x.toml: space key: 'lrr' is unknown; did you mean 'lr'?"),
    ("low = 1e-3", "low = 0.0", "x.toml: space.lr.low: 0.0 has no logarithm"),
    ("low = 1e-3", "low = 0.5", "x.toml: space.lr: '0.5 to 0.1' is empty or reversed"),
    ("low = 1e-3", "low = 0.1", "x.toml: space.lr: '0.1 to 0.1' is empty or reversed"),
    ("low = 1e-3", "lo = 1e-3", "x.toml: space.lr key: 'lo' is unknown; did you mean 'low'?"),
    ("low = 1e-3", "low = nan", "x.toml: space.lr.low: nan is not allowed"),
    (", points = 4", "", "x.toml: space.lr.points: None is missing"),
    ("points = 4", "points = 1", "x.toml: space.lr.points: 1 is not allowed"),
    ('"grid"', '"gird"', "x.toml: sampler: 'gird' is unknown; did you mean 'grid'? allowed: grid, qmc, tpe, gp"),
    ('"grid"', '"boundary"', "x.toml: sampler: 'boundary' is for objective phase"),
    ("trials", "trails", "x.toml: key: 'trails' is unknown; did you mean 'trials'?"),
    ("trials = 2", "trials = 0", "x.toml: trials: 0 is not allowed; allowed: a whole number ≥ 1"),
    ("trials", 'preset = "quik"\ntrials', "x.toml: preset: 'quik' is unknown; did you mean 'quick'?"),
    ("trials", 'objective = "best"\ntrials', "x.toml: objective: 'best' is not allowed"),
    ("[space]", "[settings]\nepoch = 3\n[space]", "x.toml: settings key: 'epoch' is unknown; did you mean 'epochs'?"),
    ("[space]", "[settings]\nepochs = 0\n[space]", "x.toml: settings: epochs: 0 is not allowed"),
    ("[space]", "[settings]\nlr = 0.1\n[space]", "x.toml: settings.lr: 0.1 is what this study searches"),
    ("[space]", "[end_early]\nbelow = 1\n[space]", "x.toml: end_early key: 'below' is unknown"),
    ("lr = {", "seeds = { choices = [1] }\nlr = {", "x.toml: space.seeds: '1,' cannot be searched"),
    ("lr = {", "model = { choices = [] }\nlr = {", "x.toml: space.model.choices: [] is not allowed"),
    ("lr = {", 'scope = { choices = ["all"] }\nlr = {', "x.toml: space.scope.choices: 'all' is not allowed"),
    ("lr = {", "scope = { low = 1, high = 2, points = 2 }\nlr = {", "x.toml: space.scope: '1 to 2' is no range"),
    ("lr = {", "batch_size = { low = 1.5, high = 9, points = 2 }\nlr = {", "space.batch_size.low: 1.5 is not allowed"),
    ("lr = {", "lr = { choices = [0.1], ", "x.toml: space.lr: "),
    ("lr = {", "epochs = { choices = [2, 2] }\nlr = {", "x.toml: space.epochs.choices: '2,2' names one twice"),
    ("lr = {", "jobs = { choices = [1, 2] }\nlr = {", "x.toml: space.jobs: '1,2' cannot be searched"),
    ("lr = {", "epochs = {choices=[1]}\niterations = {choices=[1]}\nlr = {", "'epochs, iterations' exclude each other"),
    ("points = 4", "points = 9999 }\nprune_rate = { low = 0.1, high = 0.9, points = 99", "is too much"),
    ("trials = 2", "trials = true", "x.toml: trials: True is not allowed"),
    ("trials = 2", "trials = 2\ndown_to_pct = 1e-300\nsettings.prune_rate = 1e-9", "takes more than 100,000 rounds"),
    ("trials", "trials", "does not exist"),
    ("=", "", "STUDY: 'x.toml' is not valid TOML"),
]
BESIDE = [
    ("density = 0.1", "prune_rate = { low = 0.1, high = 0.5, points = 2 }", "density: 0.1 cannot", "prune_rate"),
    (
        'tensor_densities = "*=0.1"',
        "prune_rate = { choices = [0.2, 0.5] }",
        "tensor_densities: '*=0.1' cann",
        "prune_rate",
    ),
    ("prune_rate = 0.5", "density = { choices = [0.1, 0.2] }", "prune_rate: 0.5 cannot", "density"),
    ("prune_rate_conv = 0.5", "density = { choices = [0.1, 0.2] }", "prune_rate_conv: 0.5 cannot", "density"),
    ("density = 0.1", 'tensor_densities = { choices = ["*=0.1"] }', "density: 0.1 cannot", "tensor_densities"),
    ("prune_rate = 0.5", 'tensor_densities = { choices = ["*=0.1"] }', "prune_rate: 0.5 cannot", "tensor_densities"),
    ("epochs = 1", "iterations = { choices = [10, 20] }", "epochs: 1 cannot", "iterations"),
    ("iterations = 10", "epochs = { low = 1, high = 2, points = 2 }", "iterations: 10 cannot", "epochs"),
]
OPTIONS = [
    (["lrr"], "STUDY: 'lrr' is unknown; did you mean 'lr'?"),
    (["x.toml", "--trials", "0"], "--trials: 0 is not allowed; allowed: a whole number ≥ 1"),
    (["x.toml", "--sampler", "random"], "--sampler: 'random' is unknown; allowed: grid, qmc, tpe, gp, boundary"),
    (["x.toml", "--sampler", "boundary"], "--sampler: 'boundary' is for objective phase"),
    (["x.toml", "--lr", "0.1"], "--lr: '0.1' is what this study searches"),
    (["x.toml", "--jobs", "0"], "--jobs: 0 is not allowed"),
    (["x.toml", "--timeout", "-1"], "--timeout: -1.0 is not allowed"),
    (["x.toml", "--arms", "winning"], "--arms: 'winning' cannot show that tickets win"),
    (["x.toml", "--dataset", "minst"], "--dataset: 'minst' is unknown; did you mean 'mnist'?"),
    (["x.toml", "--storage", "nonsense"], "--storage: 'nonsense' is no URL"),
    (["x.toml", "--storage", "postgresql://me:secret@127.0.0.1:1/x"], "--storage: 'postgresql://me:***@127.0.0.1:1/x'"),
    (["show", "lr"], "--storage: 'sqlite:///mlruns/optuna.db' does not exist"),
]


@pytest.mark.parametrize(("old", "new", "said"), WRONG, ids=[said for *_, said in WRONG])
def test_a_wrong_file(old, new, said):
    source = "x.toml" if old != new else "y.toml"
    with pytest.raises(InputError) as told:
        _load(GOOD.replace(old, new), source)
    assert said in str(told.value)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_study_whose_definition_lacks_the_precision_began_with_its_own(precision):
    import tomllib

    study = parse("mine.toml", tomllib.loads(GOOD), {}, {"precision": precision})
    before = {key: value for key, value in study.definition().items() if key != "precision"}  # as lt 0.4 wrote it
    assert _as_begun(before, json.loads(study.model_dump_json()), study) == study.definition()
    then = _as_begun(
        {k: v for k, v in before.items() if k != "rewind_steps"}, json.loads(study.model_dump_json()), study
    )
    assert then["precision"] == ("medium" if precision == "bfloat16" else precision)  # lt 0.3's word for it


def test_what_cannot_be_searched_is_not_offered():
    with pytest.raises(InputError) as told:
        _load(GOOD.replace("lr = {", "xyz = { choices = [1] }\nlr = {"), "x.toml")
    said, _, allowed = str(told.value).partition("; allowed: ")
    assert said == "x.toml: space key: 'xyz' is unknown"
    assert "model" in allowed.split(", ")
    assert not {"arms", "seeds", "jobs"} & set(allowed.split(", "))


@pytest.mark.parametrize(("fixed", "searched", "said", "beside"), BESIDE)
def test_what_is_searched_replaces_nothing_that_is_set(fixed, searched, said, beside):
    text = f"[settings]\n{fixed}\n[space]\n{searched}\n"
    with pytest.raises(InputError) as told:
        _load(f'sampler = "grid"\n{text}', "x.toml")
    assert str(told.value).startswith(f"x.toml: settings.{said}")
    assert str(told.value).endswith(f"stand beside space.{beside}; allowed: one of the two")


def test_an_option_replaces_nothing_that_is_searched():
    with pytest.raises(InputError, match=r"^--density: '0.1' cannot stand beside space.prune_rate; allowed: one of"):
        load_study("prune-rate", density="0.1")
    both = {"space": {"prune_rate": {"choices": [0.1]}, "density": {"choices": [0.2]}}}
    with pytest.raises(InputError, match=r"^my.toml: space: 'prune_rate, density' exclude each other; allowed: one"):
        parse("my.toml", both, {}, {})


def _load(text, source):
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        Path(folder, "x.toml").write_text(text)
        try:
            return load_study(f"{folder}/{source}")
        except InputError as error:
            raise InputError(
                error.option.replace(f"{folder}/", ""), _shown(error.value, folder), error.allowed
            ) from None


def _shown(value, folder):
    return value.replace(f"{folder}/", "") if isinstance(value, str) else value


@pytest.mark.parametrize(("arguments", "said"), OPTIONS, ids=[" ".join(arguments) for arguments, _ in OPTIONS])
def test_wrong_options(lt, tmp_path, arguments, said):
    (tmp_path / "x.toml").write_text(GOOD)
    done = lt("sweep", *arguments)
    assert done.code == 2, done.err
    assert done.err.startswith(f"lt: {said}"), done.err
    assert len(done.err.splitlines()) == 1
    assert "secret" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.toml"]


def test_a_study_of_somebody_else_is_not_shown(lt, tmp_path):
    optuna.create_study(study_name="theirs", storage=f"sqlite:///{tmp_path}/optuna.db")
    done = lt("sweep", "show", "theirs", "--storage", f"sqlite:///{tmp_path}/optuna.db")
    assert (done.code, done.out) == (2, "")
    assert "STUDY: 'theirs' was not made by `lt sweep`" in done.err


@pytest.mark.parametrize(("name", "objective"), [("lr", "smallest-ticket"), ("prune-rate", "phase"), ("map", "phase")])
def test_objectives_have_names_in_the_storage_which_older_studies_lack(tmp_path, name, objective):
    study = load_study(name, objective=objective)
    storage = study_storage.open_storage(f"sqlite:///{tmp_path}/optuna.db")
    client = connection.connect(f"sqlite:///{tmp_path}/mlflow.db")

    def opened():
        return open_study(study, study.definition(), name, storage, client, "lottery-ticket", False)

    with pytest.MonkeyPatch.context() as before:
        before.setattr(optuna.Study, "set_metric_names", lambda self, names: None)
        assert opened().optuna.metric_names is None
    assert opened().continued
    optuna.delete_study(study_name=name, storage=storage)
    assert opened().optuna.metric_names == study.measures
    assert optuna.load_study(study_name=name, storage=storage).metric_names == study.measures
