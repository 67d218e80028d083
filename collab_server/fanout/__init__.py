"""News between nodes."""
