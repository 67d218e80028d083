"""The pure core: a message in, a list of effects out."""
