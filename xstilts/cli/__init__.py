"""The command line: arguments, YAML files, access tokens and local paths. Independent of runs."""
