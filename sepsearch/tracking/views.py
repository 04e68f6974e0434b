"""Description and saved views of the experiment in MLflow: columns and order for each kind of run."""

from sepsearch.tracking.mlflow_internals import VIEW_TAG, saved_view

NOTE = """A run per search; its children are trials (`t0004`), finalists by configuration and seed (`c0-s2`), and for
every instrument its final model (`vn`), with pictures and audio under Artifacts. `ratio` is validation loss / identity
loss: below 1 is better than handing the mixture through; `final_ratio/vn` is that of the weights that were kept.

**Views**, above on the right, have columns for each kind of run. Filters: `tags.stage = 'search'`, `'trial'` or
`'finalist'`; of finalists `tags.instrument = 'vn'` finds the violin model of every search, `'all'` the finalists by
seed. Sort by a metric: sorted by date, MLflow hides children behind their search.

`python -m sepsearch.promote RUN --instrument vn` makes a run's model the champion; RUN is a run's id or `search/c0-s2`.
"""
# Key → name, filter, and columns, by the first of which the runs are sorted.
VIEWS = {
    "searches": """Searches; tags.stage = 'search';
        metrics.final_ratio_mean metrics.reference_ratio_mean metrics.best_ratio metrics.trials_completed
        metrics.trials_stopped metrics.trials_failed""",
    "trials": """Trials with the full budget; tags.stage = 'trial' and tags.state = 'completed';
        metrics.ratio tags.sepsearch.name metrics.discontinuities params.filters params.head params.activation
        params.learning_rate""",
    "finalists": """Finalists and seeds; tags.stage = 'finalist' and tags.instrument = 'all';
        metrics.final_ratio_mean tags.sepsearch.name tags.chosen tags.eliminated metrics.discontinuities
        metrics.final_ratio/vn""",
    "models": """Final models; tags.stage = 'finalist' and tags.instrument != 'all';
        metrics.ratio tags.sepsearch.name tags.unit metrics.ratio_mean metrics.ratio_sd metrics.test_ratio
        metrics.constant_gain_ratio metrics.si_sdr_gain_db metrics.oracle_si_sdr_gain_db""",
}


def experiment_tags() -> dict[str, str]:
    """Tags of a new experiment: kind, primary metric, description and saved views."""
    tags = {
        "mlflow.experimentKind": "custom_model_development",  # otherwise MLflow's pages open in their LLM mode
        "mlflow.experiment.primaryMetric.name": "ratio",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "False",
        "mlflow.note.content": NOTE,
    }
    for key, view in VIEWS.items():
        name, search, columns = (part.strip() for part in view.split(";"))
        order, *others = ("{}.`{}`".format(*column.split(".", 1)) for column in columns.split())
        tags[f"{VIEW_TAG}sepsearch-{key}"] = saved_view(name, search, order, others)
    return tags
