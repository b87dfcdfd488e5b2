"""The results of benchmarks/gpu.py as Markdown."""

from __future__ import annotations

from typing import Any

from scaling import table

Result = dict[str, Any]


def card(found: Result) -> str:
    memory = f", {found['memory_gib']:.0f} GiB, CUDA {found['cuda']}" if "memory_gib" in found else ""
    return (
        f"{found['name']}{memory}; torch {found['torch']}, transformers {found['transformers']}. Measured: "
        f"{found['bf16_tflops']:.3g} TFLOP/s in a bf16 product, {found['fp32_tflops']:.3g} in fp32, copies of "
        f"{found['copies_gb_per_second']:.3g} GB/s."
    )


def train(found: Result) -> str:
    tasks = [task for task in ("mnli", "squad") if task in found]
    lines = [
        [
            task,
            rival,
            f"{of['tokens_per_second']:,.0f} ({min(of['of_each_round']):,.0f} to {max(of['of_each_round']):,.0f})",
            f"{100 * of['share_of_product']:.1f} %",
            f"{of['gib']:.1f}",
            f"{of['dev_loss']:.3f}",
        ]
        for task in tasks
        for rival, of in found[task]["rivals"].items()
    ]
    heads = ["task", "training", "tokens/s (of the rounds)", "of the product's rate", "peak GiB", "dev loss"]
    text = f"{found['parameters'] / 1e6:,.0f} M parameters, random weights.\n\n{table(heads, lines)}"
    ratios = [
        f"{task} {' and '.join(f'{ratio:.2f}x' for ratio in found[task]['ratios'])} in its rounds" for task in tasks
    ]
    text += f"\n\nOurs over the example script's best flags: {', '.join(ratios)}."
    if stops := found.get("stops_in_8_steps"):
        text += f" Times the program waited for the GPU: {len(stops)} in 8 steps {' '.join(sorted(set(stops)))}."
    elif stops == []:
        text += " The program did not wait for the GPU in 8 steps."
    return text


def embed(found: Result) -> str:
    lines = [
        [
            dtype,
            f"{of['sentences_per_second']:,.0f}",
            f"{of['sentence_transformers']:,.0f}",
            f"{of['ratio']:.2f}x",
            f"{of['largest_difference']:.1e}",
        ]
        for dtype in ("fp32", "bf16")
        if (of := found.get(dtype))
    ]
    heads = ["dtype", "ours, sentences/s", "sentence-transformers", "ratio", "largest difference"]
    return f"{found['sentences']:,} sentences, all layers of the XLM-R Large shape.\n\n{table(heads, lines)}"


def mine(found: Result) -> str:
    size = f"{found['pool']:,}"
    return (
        f"{size} x {size} x {found['width']}, 4 neighbours each way: {found['seconds']:.2f} s on the card, "
        f"{found['seconds_cpu']:.2f} s on the CPU. {found['pairs']:,} pairs, of which "
        f"{found['pairs_that_differ_from_cpu']} differ from the CPU's; largest error of a score in 500 rows against "
        f"float64 {found['largest_error_of_500_rows']:.1e}."
    )


def matrix(found: Result) -> str:
    lines = [
        [of["arm"], of["task"], f"{of['gpu']:.1f}", f"{of['cpu']:.1f}", f"{of['gpu'] - of['cpu']:+.1f}"]
        for of in found["scores"]
    ]
    return f"{found['seconds_of_both']:.0f} s for both, which ran at the same time from the same model.\n\n" + table(
        ["arm", "task", "GPU", "CPU", "difference"], lines
    )


FORMS = {"card": card, "train": train, "embed": embed, "mine": mine, "matrix": matrix}


def markdown(results: dict[str, Result]) -> str:
    """Return the page: a section for each part, with what failed said where its numbers would stand."""
    sections = ["# benchmarks/gpu.sh"]
    for name, found in results.items():
        sections.append(f"## {name} ({found.get('wall_seconds', 0):.0f} s)")
        if "failed" in found:
            sections.append(f"**Failed:** {found['failed']}")
        if found.keys() - {"failed", "wall_seconds"}:  # a part that ran out of time keeps what it has
            sections.append(FORMS[name.partition("-")[0]](found))
    return "\n\n".join(sections)
