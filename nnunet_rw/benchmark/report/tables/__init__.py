"""What a benchmark's report says in tables and text, and its files for papers."""
