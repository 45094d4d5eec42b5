import pytest
import torch

from data.errors import InputError, SampleError
from data.loading.loader import StepLoader, TaskData
from data.loading.raw import RawPrepare
from data.sample import Sample
from data.stream import Place, Stream


@pytest.mark.parametrize("workers", [0, 2])
def test_members_come_out_as_they_lie_in_the_shards(shards, workers):
    stream = Stream("t", shards("a", 9, members=("txt", "png")), 0)
    prepare = RawPrepare(["png", "txt"])
    for batch in StepLoader({"t": TaskData(stream, prepare, 4, 2)}, 0, 5, workers=workers):
        places = batch.places["t"].tolist()
        for micro, own in zip(batch.tasks["t"], (places[:2], places[2:]), strict=True):
            assert micro["size"] == 2
            content, edges = micro["bytes"].numpy().tobytes(), micro["edges"].tolist()
            found = [content[a:b] for sample in edges for a, b in sample]
            samples = [stream.read(Place(source, 0, number)).members for source, number in own]
            assert found == [sample[field] for sample in samples for field in ("png", "txt")]


def test_empty_members_are_members():
    prepare = RawPrepare(["txt"])
    batch = prepare.collate([prepare(Sample("s.tar", "k", {"txt": b""}), None, True)])
    assert batch["bytes"].dtype == torch.uint8
    assert batch["edges"].tolist() == [[[0, 0]]]


def test_a_missing_member_is_named():
    with pytest.raises(SampleError, match=r"no member jpg; it has: png, txt") as error:
        RawPrepare(["txt", "jpg"])(Sample("s.tar", "k", {"txt": b"", "png": b""}), None, True)
    assert (error.value.kind, error.value.member) == ("missing", "jpg")


def test_fields_must_be_a_list():
    for fields in ([], "txt"):
        with pytest.raises(InputError, match="is not a list of member extensions"):
            RawPrepare(fields)
