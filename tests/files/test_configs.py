import copy
import pickle
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import distill
from distill.files.configs import Configurable, current_class_path, from_config, load_class, to_config, with_current_class_paths
from distill.records import BadInput
from distill.teachers.options import TeacherOptions


class Shape(Configurable):
    def __init__(self, sides: int, name: str = "shape"):
        self.sides = sides


class Square(Shape):
    def __init__(self, width: float, **kwargs):
        super().__init__(4, **kwargs)
        self.width = width


class Drawing(Configurable):
    def __init__(self, shapes: list, by_name: dict | None = None):
        self.shapes, self.by_name = shapes, by_name


class Layer(Configurable, torch.nn.Module):
    def __init__(self, width: int, bias: bool = True):
        super().__init__()
        self.linear = torch.nn.Linear(width, width, bias)


class Bag(Configurable):
    def __init__(self, *things: int):
        self.things = things


class Colour(Enum):
    RED = "red"


@dataclass
class Size:
    width: int
    colour: Colour


class Plain:
    pass


def test_the_arguments_are_remembered_by_name_with_their_defaults():
    assert Shape(3).init_args == {"sides": 3, "name": "shape"}
    assert Square(2.0, name="tile").init_args == {"width": 2.0, "name": "tile"}
    assert Layer(2).init_args == {"width": 2, "bias": True}


def test_a_class_without_arguments():
    class Empty(Configurable):
        pass

    assert Empty().init_args == {}


def test_wrong_arguments_are_pythons_own_error():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'sides'"):
        Shape()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize("made", [Shape(5), Square(2.0), Layer(2)])
def test_a_copy_remembers_them_too(made, again):
    assert again(made).init_args == made.init_args


def test_an_object_becomes_yaml_and_comes_back():
    drawing = Drawing([Square(2.0, name="tile"), Shape(sides=3)], {"last": Shape(6), "none": None})
    config = yaml.safe_load(yaml.safe_dump(to_config(drawing)))
    assert config["class_path"] == f"{__name__}.Drawing"
    assert config["init_args"]["shapes"][0] == {"class_path": f"{__name__}.Square", "init_args": {"width": 2.0, "name": "tile"}}
    again = from_config(config)
    assert isinstance(again, Drawing) and [type(shape) for shape in again.shapes] == [Square, Shape]
    assert (again.shapes[0].width, again.by_name["last"].sides, again.by_name["none"]) == (2.0, 6, None)
    assert to_config(again) == config


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Path("a/b"), "a/b"),
        (torch.float16, "torch.float16"),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (True, True),
        (Colour.RED, "red"),
        (Size(2, Colour.RED), {"width": 2, "colour": "red"}),
        ((1, "a", None), [1, "a", None]),
        (Plain, f"{__name__}.Plain"),
        (Plain(), f"{__name__}.Plain"),  # and no address in memory, which would differ the next time
        (test_a_class_without_arguments, f"{__name__}.test_a_class_without_arguments"),
    ],
)
def test_plain_values(value, expected):
    found = to_config(value)
    assert found == expected and type(found) is type(expected)
    assert yaml.safe_load(yaml.safe_dump(found)) == expected


def test_arguments_without_names_have_no_configuration():
    assert Bag(1, 2).things == (1, 2)
    assert Bag().init_args == {}
    with pytest.raises(BadInput, match=r"Bag: made with arguments that have no names \(\*args\)"):
        to_config(Bag(1, 2))


@pytest.mark.parametrize("path", ["subprocess.Popen", "os.system", f"{__name__}.Plain"])
def test_only_classes_of_this_package_and_their_like_are_called(path):
    with pytest.raises(BadInput, match="no class of this package, nor derived from one"):
        from_config({"source": {"class_path": path, "init_args": {}}})


@pytest.mark.parametrize("path", ["nothing", "no_such_package.Thing", "distill.records.Nothing", None, 7])
def test_a_path_without_a_class_is_named(path):
    with pytest.raises(BadInput, match=f"{path}: no class of that path"):
        from_config({"class_path": path})


def test_paths_of_the_release_before_are_understood():
    config = {"source": [{"class_path": "distill.data.MsMarcoTsv", "init_args": {"root": "r"}}], "other": "distill.data.MsMarcoTsv"}
    assert with_current_class_paths(config) == {
        "source": [{"class_path": "distill.texts.sources.MsMarcoTsv", "init_args": {"root": "r"}}],
        "other": "distill.data.MsMarcoTsv",
    }
    assert load_class("distill.data.negatives.RandomNegatives").__module__ == "distill.teachers.negatives"


@pytest.mark.parametrize("path", ["distill.texts.sources.Beir", "distill.texts.Beir", "distill.data.Beir", "distill.data.sources.Beir"])
def test_a_class_has_one_path(path):
    assert current_class_path(path) == "distill.texts.sources.Beir" == to_config(load_class(path))


@pytest.mark.parametrize("path", ["QueryMatching", "planted.BreaksAt", "distill.texts.Gone", "distill.gone.Thing", "subprocess.Popen"])
def test_other_paths_stay(path):
    assert current_class_path(path) == path


def test_arrays_and_sets_become_whole_lists():
    assert to_config({"array": np.arange(2000), "set": {"b", "a"}}) == {"array": list(range(2000)), "set": ["a", "b"]}


SPEC = distill.StudentFromTeacher([0, 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: distill.QueryMatching(distance="L2"), "distance: 'L2' is none of l2, squared_l2, cosine"),
        (lambda: distill.StudentFromBackbone("x", projection="Linear"), "projection: 'Linear' is none of none, linear"),
        (
            lambda: distill.StudentModule(distill.StudentFromTeacher([0]), {"a": distill.QueryMatching()}, "sharde"),
            "documents: 'sharde' is none of",
        ),
        (lambda: distill.evaluate("a", "b", "c", documents="studnet"), "documents: 'studnet' is none of teacher, student"),
        (lambda: TeacherOptions(precision="fp16"), "precision: 'fp16' is none of auto, bf16, fp32"),
        (lambda: distill.StudentFromTeacher("2"), "layers: '2': give how many layers to keep, e.g. 2, or list them"),
        (lambda: distill.StudentModule(SPEC, distill.QueryMatching()), "model.losses: name at least one loss"),
        (lambda: distill.RetrievalData("texts", "store"), r"source: 'texts': no source of texts: give one, e.g. Beir\('texts'\)"),
    ],
)
def test_python_is_as_strict_as_the_command_line(make, message):
    with pytest.raises(BadInput, match=message):
        make()
