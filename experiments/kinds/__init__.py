"""What a point can be: one file a kind, named in `running.worker.KINDS`.

Each has `check_point(point)`, `objections(point)`, `predict(point)` and `run_point(point, out)`.
"""
