"""Saved weights: the same network again, to the bit; and no file of others runs code or takes memory."""

import io
import json
import pickle
import zipfile

import pytest
import torch

import channel_bench as cb
from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError, MissingDataError
from channel_bench.recipe import get_recipe
from channel_bench.support import curves as curves_module
from channel_bench.training import native
from channel_bench.training.archive import NETWORK, SUPERNET, read_archive, write_archive
from channel_bench.training.run import train_run
from channel_bench.training.weights import load_network, train_network

SPACE = cb.get_space("resnet-mini")
RECIPE = get_recipe("mini", epochs=1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, digits):
    """A file of weights by PyTorch, and the network that it is of."""
    network = train_network(SPACE, "1213121", RECIPE, 3, digits, backend="torch")
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    network.save(path)
    return path, network


def check_again(path, network, digits):
    again = load_network(path)
    assert not again.model.training and again.record == network.record and again.recipe == network.recipe
    ours, theirs = network.model.state_dict(), again.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    found = again.evaluate(digits)
    assert (found.accuracy, found.loss) == (again.record.test_acc, again.record.test_loss)
    assert found.num_correct == round(found.accuracy * 5.97) and found.num_images == 597
    right = (again(digits.test_images).argmax(1) == digits.test_labels).sum().item()
    assert abs(right - found.num_correct) <= 1  # another order of sums may turn an image
    return again


def test_weights_of_pytorch_give_the_records_accuracy_again(saved, digits):
    path, network = saved
    again = check_again(path, network, digits)
    assert (again.dataset, again.dataset_digest, again.version) == ("digits", digits.digest, cb.__version__)
    record = train_run(SPACE, "1213121", RECIPE, 3, digits)
    assert record.curves == network.record.curves  # keeping the weights changes no result


@pytest.mark.parametrize("name", ["resnet-mini", "mobilenet-mini"])
def test_weights_of_the_native_trainer_give_the_records_accuracy_again(name, digits, tmp_path):
    space = cb.get_space(name)
    if native.reason_not(space, RECIPE, digits) is not None:
        pytest.skip("no native trainer here")
    network = train_network(space, "2344424", get_recipe("mini", epochs=2), 0, digits, backend="native")
    network.save(tmp_path / "w.pt")
    again = check_again(tmp_path / "w.pt", network, digits)
    assert again.evaluate(digits).backend == "native" and network.record.test_acc > 15  # chance is 10
    other = again.evaluate(digits, "torch")
    assert other.loss == pytest.approx(network.record.test_loss, abs=1e-4)
    assert all(value.item() == 38 for name, value in again.model.state_dict().items() if "num_batches" in name)


def test_pytorch_reads_the_file_without_running_anything(saved):
    content = torch.load(saved[0], weights_only=True)
    identity = json.loads(content["identity"])
    assert (content["kind"], identity["space"], identity["record"]["seed"]) == (NETWORK, "resnet-mini", 3)
    assert torch.equal(content["state"]["classifier.weight"], saved[1].model.state_dict()["classifier.weight"])


def repack(path, target, change):
    """The file with other entries: change takes and returns names and bytes."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in change(entries).items():
            archive.writestr(name, data)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the file ran')",)


class Huge:
    def __reduce__(self):
        return bytearray, (10**12,)


@pytest.mark.parametrize("payload", [Evil(), {"kind": Evil()}, Huge(), {"kind": NETWORK, "format": 1, "state": Huge()}])
def test_code_and_memory_bombs_in_a_file_are_one_line(saved, tmp_path, payload):
    bad = tmp_path / "bad.pt"
    repack(
        saved[0],
        bad,
        lambda found: {k: pickle.dumps(payload, 2) if k.endswith("data.pkl") else v for k, v in found.items()},
    )
    with pytest.raises(CorruptFileError, match="is no channel-bench network"):
        load_network(bad)


def test_a_compressed_entry_is_not_inflated(saved, tmp_path):
    bad = tmp_path / "bad.pt"
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(10**7))
    with pytest.raises(CorruptFileError, match="compressed entries"):
        load_network(bad)


@pytest.mark.parametrize("size", [(6, 6), (10**9, 10**9), (2, -3)])
def test_a_tensor_is_never_larger_than_its_bytes(tmp_path, size):
    class Lying(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if value == "elements" else None

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, ("elements", 0, size, (1, 1), False, None)

    buffer = io.BytesIO()
    Lying(buffer, 2).dump({"kind": NETWORK, "format": 1, "identity": "{}", "state": {"w": Tensor()}})
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        archive.writestr("w/data.pkl", buffer.getvalue())
        archive.writestr("w/data/0", bytes(16))
    with pytest.raises(CorruptFileError, match="tensor"):
        read_archive(tmp_path / "bad.pt", NETWORK)


def test_every_truncation_and_flipped_byte_is_one_line_or_the_same_weights(saved, tmp_path):
    data, bad = saved[0].read_bytes(), tmp_path / "bad.pt"
    ours = saved[1].model.state_dict()
    places = range(0, len(data), max(1, len(data) // 150))
    refused = 0
    for damaged in [
        *(data[:place] for place in places),
        *(data[:p] + bytes([data[p] ^ 255]) + data[p + 1 :] for p in places),
    ]:
        bad.write_bytes(damaged)
        try:
            found = load_network(bad).model.state_dict()
            assert all(torch.equal(found[name], ours[name]) for name in ours)  # a byte of padding, or of a name
        except ChannelBenchError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 200


def test_weights_of_another_space_architecture_or_kind_are_refused(saved, tmp_path):
    path = tmp_path / "w.pt"
    identity, state = read_archive(saved[0], NETWORK)
    for change, message in (
        ({"space_fingerprint": "0"}, "has weights of space 'resnet-mini' \\(fingerprint 0\\)"),
        ({"space": "resnet-nano"}, "is of space 'resnet-nano', which is not known here"),
        ({"space": "nothing/mine.toml"}, "which is not known here"),  # a file never names another one to read
        ({"space": 5}, "which is not known here"),
        ({"record": identity["record"] | {"arch": "1111111"}}, "its costs are not those of 1111111"),
        ({"record": {}}, "not a run record"),
        ({"recipe": {"epochs": -1}}, "recipe"),
    ):
        write_archive(path, NETWORK, identity | change, state)
        with pytest.raises(ChannelBenchError, match=message):
            load_network(path)
    write_archive(path, NETWORK, identity, {**state, "classifier.bias": torch.zeros(11)})
    with pytest.raises(CorruptFileError, match="its weights are not those of 1213121"):
        load_network(path)
    write_archive(path, SUPERNET, identity, state)
    with pytest.raises(CorruptFileError, match="it holds a channel-bench supernet"):
        load_network(path)
    with pytest.raises(ArgumentError, match="mobilenet-mini"):
        load_network(saved[0], cb.get_space("mobilenet-mini"))
    with pytest.raises(MissingDataError):
        load_network(tmp_path / "none.pt")


def test_a_diverged_run_is_not_saved(digits, tmp_path):
    network = train_network(SPACE, "2222222", get_recipe("mini", epochs=1, lr=1e12), 0, digits)
    with pytest.raises(ArgumentError, match="the run diverged"):
        network.save(tmp_path / "w.pt")
    assert not (tmp_path / "w.pt").exists()


def test_commands_save_log_and_evaluate(tmp_path, run_cli):
    weights, log = tmp_path / "w.pt", tmp_path / "c.csv"
    arguments = ("resnet-mini", "1111111", "--epochs", "2", "--device", "cpu")
    code, output, errors = run_cli("channel-bench", "train", *arguments, "--save", weights, "--log", log, "--json")
    assert code == 0, errors
    record = json.loads(output)
    lines = log.read_text().splitlines()
    assert lines[0] == "epoch,train_loss,train_acc,test_loss,test_acc" and len(lines) == 3
    assert [float(line.split(",")[4]) for line in lines[1:]] == record["curves"]["test_acc"]
    code, output, _ = run_cli("channel-bench", "evaluate", weights, "--device", "cpu", "--json")
    found = json.loads(output)
    assert code == 0 and found["test_acc"] == found["recorded_test_acc"] == record["test_acc"] and found["same_images"]
    weights.write_bytes(b"PK\3\4 no weights")
    code, output, errors = run_cli("channel-bench", "evaluate", weights)
    assert code == 2 and output == "" and len(errors.splitlines()) == 1 and "is no channel-bench network" in errors


def test_a_log_holds_all_epochs_so_far_and_empty_cells_for_none(tmp_path):
    log = curves_module.CurveLog(tmp_path / "c.csv", None)
    log({"a": [1.0]})
    log({"a": [1.0, float("nan"), None]})
    assert (tmp_path / "c.csv").read_text() == "epoch,a\n1,1.0\n2,\n3,\n"


def test_tensorboard_gets_every_epoch_once(tmp_path):
    pytest.importorskip("tensorboard", reason="no TensorBoard here: pip install 'channel-bench[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = curves_module.CurveLog(None, tmp_path / "tb")
    log({"loss": [2.0, 1.0]})
    log({"loss": [2.0, 1.0, 0.5]})
    log.close()
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.0), (2, 1.0), (3, 0.5)]
