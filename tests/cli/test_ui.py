"""`lt ui` in a real browser: the accuracy curves are there without a click, on a log axis."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress

import pytest

from tests.conftest import environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def start_ui(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "lottery_ticket", "ui"],
        cwd=folder,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def post(address, headers):
    search = address.split("#")[0] + "ajax-api/2.0/mlflow/experiments/search"
    body = json.dumps({"max_results": 10}).encode()
    return urllib.request.Request(search, body, {"Content-Type": "application/json"} | headers)


@pytest.fixture
def address(lt, quick_flags, tmp_path):
    for lr in (0.001, 0.003):
        assert lt("run", *quick_flags, "--lr", lr).code == 0
    process = start_ui(tmp_path)
    try:
        yield re.search(r"http://\S+", process.stdout.readline())[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        with pytest.raises(ProcessLookupError):  # nothing of it is left
            os.killpg(process.pid, 0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_terminating_the_command_ends_the_server(lt, quick_flags, tmp_path):
    assert lt("run", *quick_flags).code == 0
    process = start_ui(tmp_path)
    address = re.search(r"http://[^/]+", process.stdout.readline())[0]
    process.terminate()
    assert process.wait(timeout=30) == 143
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{address}/health", timeout=2)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_curves_show_without_a_click(address):
    from playwright.sync_api import sync_playwright

    assert address.startswith("http://127.0.0.1:")
    for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):  # MLflow's checks are on
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(post(address, header), timeout=30)
        assert refused.value.code == 403
    assert urllib.request.urlopen(post(address, {}), timeout=30).status == 200
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(address)
        page.wait_for_selector(".js-plotly-plot .scatterlayer .trace path.js-line", timeout=60_000)
        plot = page.locator(".js-plotly-plot").first
        assert plot.evaluate("plot => plot.layout.xaxis.type") == "log"
        curves = plot.evaluate(
            "plot => plot.data.filter(d => d.mode == 'lines+markers').map(d => [d.metricKey, Array.from(d.x)])"
        )
        assert sorted(metric for metric, _ in curves) == [
            f"accuracy_by_compression/{arm}" for arm in ("reinit", "reinit", "winning", "winning")
        ]
        for _, x in curves:
            assert sorted(x) == pytest.approx([10000, 12500, 15625], abs=2)
        assert page.get_by_text("quick", exact=False).count() >= 2

        named = page.get_by_text("quick ").first.bounding_box()
        page.mouse.click(named["x"] - 32, named["y"] + named["height"] / 2)
        page.wait_for_selector("text=winning-seed0", timeout=15_000)
        assert page.get_by_text("reinit-seed0").count() >= 1
        browser.close()
