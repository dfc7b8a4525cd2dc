"""The Long-Range Arena's training, by its code: `full` of its four tasks has it. arXiv:2011.04006.

Of their `lrs` the middle one is the arena's. Differs in all: nothing is dropped from attention's
weights (there 0.1, in cifar10 0.2); the head is one linear layer (there one of ReLU before it), of
the mean over positions (there of a token CLS, but for two sizes of pathfinder); norms and biases do
not decay; Adam's epsilon is 1e-8 (there 1e-9); tested are the weights that validate best (there the
last); black pixels are seen (there hidden as padding); all mechanisms have full attention's sizes
(there some have their own).
"""

# a gradient's norm never gets there
NO_CLIP = 1e9
ADAM = {"beta2": 0.98, "clip": NO_CLIP}
# of 200 passes one warms up
IMAGES = {**ADAM, "weight_decay": 0.0, "warmup": 0.005, "final_lr": 0.0, "evals": 100}
