"""All of Ray: session, object store, the search loop over Ray Tune, the trainable of a worker.

Front door: `tune_runner.run_stage` (search loop), `worker_pool.WorkerPool` (the same for all stages of a run, with
workers that stay) and `trainable.train_job` (what a worker runs).
"""
