import pytest

from distill.encoders.maker import Maker
from distill.records import BadInput


def test_json_holds_every_field_and_comes_back():
    maker = Maker("ada", "1f", "server", prompts={"query": "find: "}, role="query")
    assert maker.to_json() == {
        "name": "ada",
        "fingerprint": "1f",
        "origin": "server",
        "precision": None,
        "pooling": None,
        "normalize": None,
        "prompts": {"query": "find: "},
        "role": "query",
        "head": None,
        "vectors": None,
    }
    assert Maker.from_json(maker.to_json(), "manifest.json") == maker


@pytest.mark.parametrize(
    ("release_0_1", "origin"),
    [({}, "model"), ({"origin": "were imported"}, "import"), ({"origin": "came from an endpoint"}, "server")],
)
def test_makers_of_the_release_before_are_read(release_0_1, origin):
    maker = Maker.from_json({"name": "ada", "fingerprint": "1f", **release_0_1}, "manifest.json")
    assert maker == Maker("ada", "1f", origin)
    assert maker.is_loadable == (origin == "model")


@pytest.mark.parametrize("phrase", ["were imported", "came from an endpoint"])
def test_reports_of_the_release_before_read_as_they_did(phrase):
    assert Maker.from_json({"name": "ada", "fingerprint": "1f", "origin": phrase}, "results.json").describe_origin() == phrase


def test_keys_of_a_later_release_are_ignored():
    assert Maker.from_json({"name": "ada", "fingerprint": "1f", "licence": "MIT"}, "manifest.json") == Maker("ada", "1f")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "its maker is [], not an object"),
        ({"name": "ada"}, "has the fingerprint None"),
        ({"name": 3, "fingerprint": "1f"}, "has the name 3"),
        ({"name": "ada", "fingerprint": "1f", "origin": "fell from the sky"}, "has the origin 'fell from the sky'"),
        ({"name": "ada", "fingerprint": "1f", "origin": []}, "has the origin []"),
        ({"name": "ada", "fingerprint": "1f", "precision": "fp7"}, "has the precision 'fp7'"),
        ({"name": "ada", "fingerprint": "1f", "normalize": "yes"}, "has the normalize 'yes'"),
        ({"name": "ada", "fingerprint": "1f", "prompts": {"query": 1}}, "has the prompts"),
        ({"name": "ada", "fingerprint": "1f", "vectors": 1}, "has the vectors 1"),
    ],
)
def test_what_is_no_maker_is_refused(value, words):
    with pytest.raises(BadInput) as refused:
        Maker.from_json(value, "store/manifest.json")
    assert words in str(refused.value) and str(refused.value).startswith("store/manifest.json: ")
