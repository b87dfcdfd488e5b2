"""Several processes of one measurement: what they embed together is what the measurement will ask for, and nothing is
left behind."""

import pytest

from tasks import get_task
from tasks.rows import Rows
from xstilts.cli.arguments import DataArguments, RetrievalArguments
from xstilts.retrieve import measure, pools, together
from xstilts.retrieve.embedding import Encoder
from xstilts.retrieve.headline import Headline
from xstilts.run import processes


@pytest.mark.parametrize(
    "name, options",
    [
        ("tatoeba", {}),
        ("tatoeba", {"select_on": "tatoeba:qaa"}),
        ("bucc", {}),
        ("bucc", {"select_on": "bucc:dev"}),
        ("lareqa", {}),
        ("ntrex", {"pairs": "all"}),
        ("tatoeba", {"index": "Flat"}),
    ],
)
def test_the_plan_is_what_is_embedded(name, options, tiny_model, tiny_world, tmp_path, monkeypatch):
    how = RetrievalArguments(tasks=[name], layer="all", report_layer=1, **options)
    if how.index:
        how.cache_dir = str(tmp_path)
    if how.select_on:
        how.report_layer = None
    encoder, task = Encoder.load(tiny_model, layers="all", max_length=32), get_task(name)
    data, prompts = DataArguments(data_root=str(tiny_world)), {"query": "query: "}
    headline = Headline(how, data, encoder.layers)
    rows = Rows(tiny_world)
    languages = [language for language in task.languages(rows) if language not in headline.held_out]
    examples = pools.read(task, rows, languages, how)
    planned, asked = [], []
    monkeypatch.setattr(
        together, "fill_cache", lambda encoder, sentences, folder, desc: planned.append((sentences, desc))
    )
    together.embed_all(encoder, str(tmp_path), prompts, headline, [(task, examples)], how)
    plain = measure.embedder(encoder, None, prompts)

    def embed(sentences, desc):
        asked.append((list(sentences), desc))
        return plain(sentences, desc)

    embed.prompts = plain.prompts
    layer = headline.choose(embed)
    measure.measure(task, examples, embed, how, layer)
    assert planned == asked and planned


def test_without_a_cache_vectors_are_in_the_output_folder_during_the_run(tmp_path, monkeypatch):
    with together.shared_cache(None, str(tmp_path)) as folder:
        assert folder is None
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    with together.shared_cache("elsewhere", str(tmp_path)) as folder:
        assert folder == "elsewhere"
    with together.shared_cache(None, str(tmp_path)) as folder:
        assert [str(path) for path in tmp_path.iterdir()] == [folder]
    assert not list(tmp_path.iterdir())
