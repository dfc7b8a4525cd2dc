"""The parts of a training: the loop, a step, the network, the mesh, a chosen learning rate."""
