"""What the records say -> pictures: one style for all, a file a kind of figure."""
