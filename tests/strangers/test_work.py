"""How much work a file, or a slip, may ask for: no more than the machine can hold, or it is asked for by hand."""

import time

import pytest

from lottery_ticket import memory
from lottery_ticket.config import load_preset, load_settings
from lottery_ticket.errors import InputError
from lottery_ticket.study.parse import load_study


@pytest.mark.parametrize("jobs", [5000, 257])
def test_no_more_processes_are_started_than_fit(lt, tmp_path, jobs):
    begun = time.monotonic()
    done = lt("sweep", "lr", "--jobs", jobs)
    assert done.code == 2
    assert done.err.startswith(f"lt: --jobs: {jobs} takes more than the ")
    assert "; allowed: 1 to " in done.err
    assert time.monotonic() - begun < 60
    assert not (tmp_path / "mlruns").exists()


def test_processes_that_fit(monkeypatch):
    for free, fit in ((None, 256), (0, 1), (3 * memory.PROCESS_BYTES + 1, 3), (10**15, 256)):
        monkeypatch.setattr(memory, "free", lambda free=free: free)
        assert memory.processes() == fit


def test_a_file_may_not_ask_for_any_number_of_runs(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text(f"seeds = {list(range(100_000))}\n")
    with pytest.raises(InputError, match=r"x\.toml: seeds: .* allowed: a count .3. or whole numbers .*, at most 1,000"):
        load_settings(None, file, {})
    file.write_text(f"seeds = {list(range(501))}\n")
    with pytest.raises(
        InputError, match=r"seeds: '501 seeds' asks for 1,002 trajectories; allowed: arms × seeds up to"
    ):
        load_settings(None, file, {})
    assert len(load_settings(None, file, {"arms": "winning"})[0].seeds) == 501
    assert len(load_settings(None, file, {"seeds": "600"})[0].seeds) == 600
    assert len(load_preset(seeds=1000).seeds) == 1000
    file.write_text("space = { lr = { low = 0.001, high = 0.1 } }\n[settings]\nseeds = 900\n")
    with pytest.raises(InputError, match="asks for 1,800 trajectories"):
        load_study(file)
    file.write_text(f"arms = {[f'own{i}' for i in range(101)]}\n")
    with pytest.raises(InputError, match=r"x\.toml: arms: .* is not allowed"):
        load_settings(None, file, {})
