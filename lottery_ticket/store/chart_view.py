"""The chart view that MLflow's runs page opens with: experiment tags in the form in which the UI saves views.

The form is that of MLflow 3.17 (what its menu "Views → Save as new view" writes). Its line charts have a log axis only
where x is the step, so the accuracies are logged once more as `accuracy_by_compression/<arm>` (on trajectories
`accuracy_by_compression`) with step = 10,000 × weights / weights left: 10k is dense, 100k is 10 % left. Steps that grow
from round to round, because what MLflow's tables show of a metric is its value at the largest step. Up to version 0.3
they shrank: `accuracy_by_weights`, with step = 100 × weights_remaining_pct, shows the dense network's there.
"""

import base64
import json
import zlib
from collections.abc import Sequence

BY_COMPRESSION = "accuracy_by_compression"
_BEFORE = "accuracy_by_weights"
_KEY = "lottery-ticket"
QUERY = f"viewStateShareKey={_KEY}&compareRunsMode=CHART&workflowType=machine_learning"
"""What follows `/#/experiments/<id>/runs?` in the address that opens the view."""


def compression_step(weights_remaining_pct: float) -> int:
    """The step of `accuracy_by_compression`: ten thousand times the weights, over the weights left."""
    return round(1e6 / max(weights_remaining_pct, 1e-9))


def view_tags(arms: Sequence[str] = ("winning", "reinit")) -> dict[str, str]:
    """The experiment's tags: model-training mode, and the view with the accuracy curves of two arms.

    No run is named, so runs to come appear too. The chart of `accuracy_by_compression` alone shows once a run is
    expanded, those of `accuracy_by_weights` where there are runs of version 0.3 or earlier.
    """
    charts = [
        _line(0, [f"{BY_COMPRESSION}/{arm}" for arm in arms], xAxisScaleType="log"),
        _line(1, [BY_COMPRESSION], xAxisScaleType="log"),
        _line(
            2,
            [f"test_accuracy/{arm}" for arm in arms],
            xAxisKey="metric",
            selectedXAxisMetricKey="weights_remaining_pct",
            range={"xMin": 105, "xMax": 0},
        ),
        _chart(3, "BAR", ["smallest_winning_pct"], dataAccessKey="smallest_winning_pct"),
        _line(4, [f"{_BEFORE}/{arm}" for arm in arms], xAxisScaleType="log"),
        _line(5, [_BEFORE], xAxisScaleType="log"),
    ]
    section = {
        "uuid": "section-0",
        "name": "x: 10k = dense, 100k = 10 % left",
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": 1,
        "cardHeight": 340,
    }
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [],
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts,
        "compareRunSections": [section],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {"name": "Lottery ticket", "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"}
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{_KEY}": json.dumps(view),
    }


def _chart(index: int, kind: str, metrics: Sequence[str], **more: object) -> dict[str, object]:
    return {
        "uuid": f"chart-{index}",
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": "section-0",
        "deleted": False,
        "isGenerated": False,
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
    } | more


def _line(index: int, metrics: Sequence[str], **more: object) -> dict[str, object]:
    settings = {
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "displayPoints": True,
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    }
    return _chart(index, "LINE", metrics, **(settings | more))
