"""The chart view that MLflow's runs page opens with: experiment tags in the form in which the UI saves views.

The form is that of MLflow 3.17 (what its menu "Views → Save as new view" writes). Its line charts have a log axis only
where x is the step, so the accuracies are logged once more as `accuracy_by_weights/<arm>` (on trajectories
`accuracy_by_weights`) with step = 100 × weights_remaining_pct: 10000 is dense, 1000 is 10 % left.
"""

import base64
import json
import zlib
from collections.abc import Sequence

BY_WEIGHTS = "accuracy_by_weights"
_KEY = "lottery-ticket"
QUERY = f"viewStateShareKey={_KEY}&compareRunsMode=CHART&workflowType=machine_learning"
"""What follows `/#/experiments/<id>/runs?` in the address that opens the view."""


def weights_step(weights_remaining_pct: float) -> int:
    """The step of `accuracy_by_weights`: hundredths of a percent of weights left."""
    return round(100 * weights_remaining_pct)


def view_tags(arms: Sequence[str] = ("winning", "reinit")) -> dict[str, str]:
    """The experiment's tags: model-training mode, and the view with the accuracy curves of two arms.

    No run is named, so runs to come appear too. The chart of `accuracy_by_weights` shows once a run is expanded.
    """
    charts = [
        _line(0, [f"{BY_WEIGHTS}/{arm}" for arm in arms], xAxisScaleType="log"),
        _line(1, [BY_WEIGHTS], xAxisScaleType="log"),
        _line(
            2,
            [f"test_accuracy/{arm}" for arm in arms],
            xAxisKey="metric",
            selectedXAxisMetricKey="weights_remaining_pct",
            range={"xMin": 105, "xMax": 0},
        ),
        _chart(3, "BAR", ["smallest_winning_pct"], dataAccessKey="smallest_winning_pct"),
    ]
    section = {
        "uuid": "section-0",
        "name": "x: 10k = 100 % of weights left",
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
