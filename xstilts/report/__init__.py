"""The report: the matrix of a folder of runs, statistics, tables, plots, page."""
