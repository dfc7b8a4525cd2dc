"""Records -> what they say: one flat table, fits, estimates, what moved. Draws nothing."""
