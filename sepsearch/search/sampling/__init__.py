"""What is tried next: an Optuna study that proposes configurations, and what it is told of them.

Front door: `sampler.Sampler`; `optuna_study` asks and tells by trial id, `study_storage` keeps the study.
"""
