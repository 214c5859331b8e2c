"""What a run of `lt run` left in MLflow, as plain data that two of them can be compared by."""

import hashlib
import json
from pathlib import Path

VARYING = {"seconds", "evaluation_seconds", "finished_at", "crc32"}


def outcome(client, run_id):
    """Per trajectory, and "parent": its metric points, each there once, and the hashes of its artifacts."""
    runs = [client.get_run(run_id)]
    runs += client.search_runs([runs[0].info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    told = {}
    for run in runs:
        name = "parent" if run.info.run_id == run_id else run.info.run_name
        assert run.info.status == "FINISHED", name
        assert name not in told, f"{name} is there twice"
        points = {}
        for metric in run.data.metrics:
            if metric.partition("/")[0] != "seconds":
                history = client.get_metric_history(run.info.run_id, metric)
                points[metric] = sorted((m.step, m.value) for m in history)
                assert len({step for step, _ in points[metric]}) == len(points[metric]), f"{metric} logged twice"
        told[name] = points, artifacts(client, run.info.run_id) if name != "parent" else {}
    return told


def artifacts(client, run_id):
    """Path → hash of a trajectory's artifacts; of `round.json` without its times."""
    base = Path(client.download_artifacts(run_id, ""))
    hashes = {}
    for path in base.rglob("*.*"):
        raw = path.read_bytes()
        if path.name == "round.json":
            raw = json.dumps({k: v for k, v in json.loads(raw).items() if k not in VARYING}).encode()
        hashes[str(path.relative_to(base))] = hashlib.sha256(raw).hexdigest()
    return hashes
