"""fastdigit-bench: its scheduler, statistics, adapters and reports."""
