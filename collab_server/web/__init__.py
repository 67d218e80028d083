"""The browser's part: third-party code is bundled here; our own pages are plain modules in ``static/``."""
