"""Experiments: a config becomes points, a point becomes one record, records become a report."""
