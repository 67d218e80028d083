"""The dumb edge: parse, call one thing, render."""
