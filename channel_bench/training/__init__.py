"""Train one run, from images to its record: data, networks, the training step, and the programs that train.

`run` trains one network or a stack of them in PyTorch, `native` in compiled C++, `backends` picks between the two;
`step` has the training step, `models` the networks, `datasets` the images, `devices` the devices and threads.
"""
