"""Which checkpoint is the best after a training was resumed."""

import torch

from distill.callbacks.checkpoints import BestCheckpoint


def test_the_best_so_far_is_that_of_best_ckpt(tmp_path):
    """The last checkpoint may be older than the best one, and a folder that was moved has another path in it."""
    callback = BestCheckpoint(tmp_path)
    callback.monitor = "dev/overlap@10"
    state = {"best_model_score": torch.tensor(0.9), "dirpath": "/elsewhere", "best_k_models": {"/elsewhere/best.ckpt": torch.tensor(0.9)}}
    torch.save({"global_step": 4, "state_dict": {}, "callbacks": {callback.state_key: state}}, tmp_path / "best.ckpt")
    last = {"global_step": 6, "callbacks": {callback.state_key: {**state, "best_model_score": torch.tensor(0.1)}}}
    callback.on_load_checkpoint(None, None, last)
    found = last["callbacks"][callback.state_key]
    assert found["best_model_score"] == 0.9 and found["dirpath"] == str(tmp_path)
    assert found["best_k_models"] == {str(tmp_path / "best.ckpt"): 0.9}
    older = {"global_step": 3, "callbacks": {callback.state_key: {"best_model_score": torch.tensor(0.1)}}}
    callback.on_load_checkpoint(None, None, older)  # the best one is of a later step, which this training has not reached
    assert older["callbacks"][callback.state_key] == {"best_model_score": 0.1}
