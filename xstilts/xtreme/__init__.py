"""XTREME's own layout: submission folders, and the benchmark's scores of them."""
