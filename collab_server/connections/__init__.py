"""From a socket to live documents: who it is, which documents it is in, how its frames get there."""
