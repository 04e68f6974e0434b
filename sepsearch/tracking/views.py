"""The experiment's page in MLflow: what it says, and views to choose from, with columns and an order that help."""

import json

NOTE = """A run per search; its children are trials (`t0004`), finalists by configuration and seed (`c0-s2`), and for
every instrument its final model (`vn`), with pictures and audio under Artifacts. `ratio` is validation loss / identity
loss: below 1 beats doing nothing; `final_ratio/vn` is that of the weights that were kept.

**Views**, above on the right, have the columns to choose by. Filters: `tags.stage = 'search'`, `'trial'` or
`'finalist'`; of finalists `tags.instrument = 'vn'` finds the violin model of every search, `'all'` the finalists by
seed. Sort by a metric: sorted by date, MLflow hides children behind their search.

`python -m sepsearch.promote RUN --instrument vn` makes a run's model the champion; RUN is a run's id or `search/c0-s2`.
"""
# Name, filter, what it is sorted by (ascending), and the other columns.
VIEWS = {
    "searches": (
        "Searches", "tags.stage = 'search'", "metrics.`final_ratio_mean`",
        ["metrics.`reference_ratio_mean`", "metrics.`best_ratio`", "metrics.`trials_completed`",
         "metrics.`trials_stopped`", "metrics.`trials_failed`"],
    ),
    "trials": (
        "Trials with the full budget", "tags.stage = 'trial' and tags.state = 'completed'", "metrics.`ratio`",
        ["tags.`sepsearch.name`", "metrics.`discontinuities`", "params.`filters`", "params.`head`",
         "params.`activation`", "params.`learning_rate`"],
    ),
    "finalists": (
        "Finalists and seeds", "tags.stage = 'finalist' and tags.instrument = 'all'", "metrics.`final_ratio_mean`",
        ["tags.`sepsearch.name`", "tags.`chosen`", "tags.`eliminated`", "metrics.`discontinuities`",
         "metrics.`final_ratio/vn`"],
    ),
    "models": (
        "Final models", "tags.stage = 'finalist' and tags.instrument != 'all'", "metrics.`ratio`",
        ["tags.`sepsearch.name`", "tags.`unit`", "metrics.`ratio_mean`", "metrics.`ratio_sd`", "metrics.`test_ratio`",
         "metrics.`constant_gain_ratio`", "metrics.`si_sdr_gain_db`", "metrics.`oracle_si_sdr_gain_db`"],
    ),
}  # fmt: skip


def experiment_tags() -> dict[str, str]:
    """The tags of a new experiment."""
    return {
        "mlflow.experimentKind": "custom_model_development",  # or MLflow's pages open in their language-model mode
        "mlflow.experiment.primaryMetric.name": "ratio",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "False",
        "mlflow.note.content": NOTE,
        **{f"mlflow.sharedViewState.sepsearch-{key}": _view(*view) for key, view in VIEWS.items()},
    }


def _view(name: str, search: str, order: str, columns: list[str]) -> str:
    """A saved view as MLflow's pages keep it, found in their source: an envelope around the state of the table."""
    state = {"searchFilter": search, "orderByKey": order, "orderByAsc": True, "selectedColumns": [order, *columns]}
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})
