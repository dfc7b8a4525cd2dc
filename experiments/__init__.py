"""Experiments: a config becomes points, a point becomes one record, records become a report.

Commands: `run` measures; `report`, `advise`, `compare`, `cite` and `calibrate` read records;
`catalogue`, `cards` and `gallery` write what is committed of them; `patterns` and `markov` draw.
`sweep`, `records`, `measure`, `train`, `checkpoint`, `origins` and `plots` are what these stand on.

    configs -> running -> kinds, training, tasks, measuring -> records
    records -> analysis -> reporting, figures -> page
"""
