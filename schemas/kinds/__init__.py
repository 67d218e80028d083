"""Kinds of documents, as declarations."""
