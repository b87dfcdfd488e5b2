"""Print the names of the tasks in one line, for make. Uses the standard library only.

python -m tasks --names
python -m tasks --names targets
"""

import argparse

from tasks import TARGETS, TASKS

KINDS = {"all": list(TASKS), "targets": list(TARGETS)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tasks", description="Print the names of the tasks.")
    parser.add_argument("--names", nargs="?", const="all", choices=KINDS, required=True, help="which (default: all)")
    print(*KINDS[parser.parse_args().names])
