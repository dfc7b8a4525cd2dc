"""One file, one idea. `attention_zoo.names()` finds them; adding a file adds a mechanism."""
