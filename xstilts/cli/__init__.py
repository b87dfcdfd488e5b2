"""The command line: arguments, YAML layers, what may not be shown. Knows nothing of runs."""
