"""An export from Python: what it returns, what it leaves, what it does when it is called again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_folders import save_folder
from transformers import MambaConfig

from distill.encoders.folder import load_encoder
from distill.encoders.onnx_encoder import OnnxEncoder
from distill.encoders.towers import load_towers
from distill.export.export import Export, export
from distill.export.index import measure_index
from distill.records import BadInput
from distill.vectors.store import TeacherStore

TEXTS = ["old river", "how to find a garden"]


@pytest.fixture(scope="module")
def exported(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    pytest.importorskip("onnxruntime")
    return export(str(run_folder), str(tmp_path_factory.mktemp("export") / "out"), router=True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_returns_what_it_wrote(exported, run_folder, teacher_folder):
    student = load_encoder(str(run_folder / "student"))
    assert exported.is_new and exported.index is None
    assert load_encoder(str(exported.student)).fingerprint() == student.fingerprint()
    router = load_towers(str(exported.router))
    np.testing.assert_array_equal(router.encode_query(TEXTS), student.encode_query(TEXTS))
    np.testing.assert_array_equal(router.encode_document(TEXTS), load_encoder(str(teacher_folder)).encode_document(TEXTS))
    assert exported.teacher.name == str(teacher_folder)
    assert exported.serving.latency == json.loads((exported.folder / "latency.json").read_text())
    np.testing.assert_allclose(OnnxEncoder(exported.student).encode_query(TEXTS), student.encode_query(TEXTS), atol=1e-5)


def test_the_teacher_is_copied_on_request_alone(run_folder, teacher_folder, tmp_path):
    out = tmp_path / "out"
    assert export(str(run_folder), str(out)).router is None
    names = {name for name in files(out) if not name.startswith("student/")}
    assert names == {"README.md", "export.json", "latency.json"}
    assert "router" not in (out / "README.md").read_text()
    before = files(out)
    again = export(str(run_folder), str(out), router=True)
    assert (again.router, again.is_new) == (out / "router", False)
    assert load_towers(str(again.router)).document.fingerprint() == load_encoder(str(teacher_folder)).fingerprint()
    assert 'SentenceTransformer("router")' in (out / "README.md").read_text()
    assert {name for name, content in files(out).items() if not name.startswith("router/") and content != before[name]} == {"README.md"}


def test_a_teacher_that_is_not_here_cannot_be_copied(run_folder, store_folder, teacher_folder, tmp_path):
    run, store = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in (run_folder, store_folder))
    for path in (run / "config.yaml", *store.glob("*/*.json")):
        path.write_text(path.read_text().replace(str(store_folder), str(store)).replace(str(teacher_folder), "gone/teacher"))
    with pytest.raises(BadInput, match=r"router: the model gone/teacher is not here, its vectors were .*: leave --router out"):
        export(str(run), str(tmp_path / "out"), router=True)
    assert not (tmp_path / "out").exists()
    exported = export(str(run), str(tmp_path / "out"))
    assert exported.router is None and exported.serving.latency["teacher"] is None


def test_others_can_read_every_file(exported, run_folder, store_folder):
    for folder in (exported.folder, run_folder, store_folder):
        modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}
        assert modes == {0o644}  # under the usual umask
        assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_dir()} == {0o755}


def test_the_teacher_is_timed_beside_the_student(exported):
    latency = exported.serving.latency
    assert list(latency["paths"]) == ["PyTorch", "ONNX fp32", "ONNX int8"]
    assert 0 < latency["teacher"]["query_latency_ms_p50"] <= latency["teacher"]["query_latency_ms_p95"]
    assert f"| teacher, PyTorch | {latency['teacher']['query_latency_ms_p50']:.2f} |" in (exported.folder / "README.md").read_text()


def test_again_it_writes_nothing(exported, run_folder):
    before = files(exported.folder)
    again = export(str(run_folder), str(exported.folder))
    assert (again.is_new, again.serving.is_new) == (False, False)
    assert again.serving.latency == exported.serving.latency
    assert files(exported.folder) == before


@pytest.mark.parametrize("part", [{}, {"paths": {}}, {"serve": []}, {"serve": "x"}, {"teacher": 3}, None])
def test_measurements_that_were_changed_are_refused(exported, run_folder, part):
    path = exported.folder / "latency.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(before) | part if part else part))
        with pytest.raises(BadInput, match=r"latency\.json.*: not as distill wrote (it|them) \("):
            export(str(run_folder), str(exported.folder))
    finally:
        path.write_text(before)


def test_without_the_packages_it_says_why(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.export.onnx_graph.find_spec", lambda name: None if name == "onnx" else name)
    result = export(str(run_folder), str(tmp_path / "out"))
    assert (result.serving.latency, result.serving.reason) == (None, "without onnx: install the extra `onnx` and export again")
    assert not (result.folder / "latency.json").exists()


def test_a_student_without_a_graph_is_exported_and_it_says_why(run_folder, tmp_path):
    """A Mamba's graph reads one length only."""
    pytest.importorskip("onnxruntime")
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    shutil.rmtree(run / "student")
    other = load_encoder(str(save_folder(tmp_path / "other", MambaConfig(hidden_size=32, num_hidden_layers=1, state_size=4))))
    other.save_pretrained(run / "student")
    result = export(str(run), str(tmp_path / "out"))
    assert result.serving.latency is None and result.serving.reason.startswith("ONNX Runtime fails at texts that PyTorch reads: ")
    assert "\n" not in result.serving.reason and not (result.student / "onnx").exists()
    assert load_encoder(str(result.student)).fingerprint() == other.fingerprint()


def test_an_index_is_added_and_is_there_the_next_time(exported, run_folder, store_folder, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr("distill.export.index.SECONDS", 0.01)
    index = export(str(run_folder), str(exported.folder), "flat").index
    assert index.is_new and index.measurements["recall@10"] == 1
    assert index.measurements == json.loads((index.folder / "index.json").read_text())
    assert (index.folder / "ids.txt").read_text().splitlines() == [f"d{i}" for i in range(60)]
    again = export(str(run_folder), str(exported.folder), "flat").index
    assert not again.is_new and again.measurements == index.measurements
    with pytest.raises(BadInput, match=r"index: made from other inputs \(kind was flat, now hnsw\)"):
        export(str(run_folder), str(exported.folder), "hnsw")
    shutil.rmtree(index.folder)


@pytest.mark.parametrize("own", [None, np.arange(7)])
def test_the_recall_of_an_index_is_that_of_its_answers(own, store_folder, monkeypatch):
    """A third of the documents is turned away from every query, and not found."""
    faiss = pytest.importorskip("faiss")
    monkeypatch.setattr("distill.export.index.SECONDS", 0.01)
    store = TeacherStore(store_folder).documents
    exact = store[:].astype(np.float32)
    changed = exact.copy()
    changed[::3] *= -1
    index = faiss.IndexFlatIP(exact.shape[1])
    index.add(changed)
    queries = exact[:7] + 0.1 * exact[10:17]

    def find(documents):
        scores = queries.astype(np.float64) @ documents.T
        if own is not None:
            scores[np.arange(7), own] = -np.inf
        return np.argsort(-scores, axis=1)[:, :10]

    expected = np.mean([len({*one} & {*other}) / 10 for one, other in zip(find(exact), find(changed), strict=True)])
    found = measure_index(index, store, torch.from_numpy(queries), own)
    assert found["recall@10"] == pytest.approx(expected) and 0.2 < expected < 0.9


@pytest.mark.parametrize("kind", ["empty folder", "nothing", "another link"])
def test_a_link_to_a_folder_stays_a_link(kind, run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.export.onnx_graph.find_spec", lambda name: None if name == "onnx" else name)
    target, link = tmp_path / "disk" / "exports", tmp_path / "out"
    link.symlink_to(target)
    if kind == "nothing":
        (tmp_path / "disk").mkdir()
    else:
        target.mkdir(parents=True)
    if kind == "another link":
        link = tmp_path / "second"
        link.symlink_to(tmp_path / "out")
    assert export(str(run_folder), str(link)).is_new
    assert not export(str(run_folder), f"{link}/").is_new
    assert link.is_symlink() and link.resolve() == target
    assert {path.name for path in target.iterdir()} == {"student", "export.json", "README.md"}
    assert [path.name for path in target.parent.iterdir()] == ["exports"]


def test_what_a_link_leads_to_is_kept(run_folder, tmp_path):
    target, link = tmp_path / "precious", tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("x")
    link.symlink_to(target)
    with pytest.raises(BadInput, match="not an export and not empty"):
        export(str(run_folder), str(link))
    assert link.is_symlink() and files(target) == {"notes.txt": b"x"}


@pytest.mark.parametrize("part", ["student", "student/onnx", "index", "router"])
def test_a_part_of_a_strangers_export_is_no_link_out(part, run_folder, tmp_path):
    """Else the ONNX models of somebody's other folder would be replaced by ours."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "onnx").mkdir(parents=True)
    (elsewhere / "onnx" / "model.onnx").write_text("precious")
    (tmp_path / "out" / part).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / part).symlink_to(elsewhere)
    with pytest.raises(BadInput, match=f"out/{part}: a link to {elsewhere}, whose files would be overwritten"):
        export(str(run_folder), str(tmp_path / "out"))
    assert files(elsewhere) == {"onnx/model.onnx": b"precious"}


@pytest.mark.parametrize(
    ("left", "message"),
    [({"notes.txt": "x"}, "not an export and not empty"), ({"export.json": "{}"}, "exported from another student or teacher")],
    ids=["another folder", "another export"],
)
def test_other_folders_are_refused(left, message, run_folder, tmp_path):
    for name, content in left.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=message):
        export(str(run_folder), str(tmp_path))
    assert files(tmp_path) == {name: content.encode() for name, content in left.items()}
