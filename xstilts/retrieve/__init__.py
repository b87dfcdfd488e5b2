"""Retrieval: sentence vectors, nearest neighbours, mining, ranks, and what is measured with them."""
