"""One run, from images to its record: data, networks, the training step, and the programs that train.

`run` trains one network or a stack of them in PyTorch, `native` in compiled C++, `backends` picks between the two;
`step` is what the GPU repeats; `models` are the networks; `datasets` the images; `devices` where all of that happens.
"""
