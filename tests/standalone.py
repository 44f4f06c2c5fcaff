"""Weights of one sub-network as a model of its own, to compare the two."""


def cut_out(net, arch, path="left"):
    """Weights of a sub-network of a supernet, under the names of `channel_bench.training.models`."""
    state = {}
    for layer in net.layers:
        weight, scale, shift = net.cut_layer(layer, arch, path)
        state |= {f"{layer.name}.weight": weight, f"{layer.norm}.weight": scale, f"{layer.norm}.bias": shift}
    features = net.channels_of(net.feature_slot, arch[net.feature_slot], path)
    state |= {"classifier.weight": net.classifier_weight[:, features], "classifier.bias": net.classifier_bias}
    return {name: tensor.detach().clone() for name, tensor in state.items()}
