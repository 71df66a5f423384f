"""Output of a run: tables, overlays, pages and exchange formats."""
