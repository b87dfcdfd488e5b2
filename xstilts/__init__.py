"""Arguments, runs, training, retrieval and reports. Names of tasks are only defaults and examples."""

import os

# Torch threads that spin while they wait starve each other on shared cores. Torch reads this when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# A forked process has none of its parent's threads, and a tokenizer that gives work to them waits forever. The library
# prevents this itself only if the variable is not set, and then warns in every process.
os.register_at_fork(after_in_child=lambda: os.environ.update(TOKENIZERS_PARALLELISM="false"))
