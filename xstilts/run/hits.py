"""hits.parquet, the file beside a retrieval result: what each query is worth."""

HITS = "hits.parquet"
# {column: its type in pyarrow's words}. One row for each language, layer, variant and query (its id); value is 0 to 1:
# a hit, an average precision, a reciprocal rank, or a mean of hits.
COLUMNS = {"language": "string", "layer": "int16", "variant": "string", "query": "string", "value": "float32"}
