"""One run: its files and its record."""
