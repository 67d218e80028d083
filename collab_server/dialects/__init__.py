"""Pure codecs: the frames of each client family <-> the messages of the core."""
