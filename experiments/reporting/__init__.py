"""What the records say -> tables, by kind of experiment, in four formats. Imports no jax."""
