"""From a config to measured points: arguments, worker processes, launchers, clusters."""
