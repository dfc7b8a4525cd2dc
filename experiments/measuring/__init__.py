"""What is measured of a program and its machine: FLOPs, bytes sent, peak memory, facts."""
