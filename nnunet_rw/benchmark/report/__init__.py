"""The report of a benchmark: one page, its tables, and files for papers."""
