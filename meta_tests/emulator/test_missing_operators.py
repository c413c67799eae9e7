"""What a user reads when torch_npu asks for an operator that the emulator does not have."""

import pytest


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(
            "torch_npu.npu_prompt_flash_attention(*[torch.rand(1, 2, 4, 16).half().npu()] * 3, num_heads=2)",
            "aclnnPromptFlashAttentionV3 is not emulated. Add it to the family that it belongs to",
            id="called-without-a-look",
        ),
        pytest.param(
            "torch.nn.LSTM(3, 4).npu()(torch.rand(2, 1, 3).npu())",
            "libopapi.so lacks the aclnn function of the same purpose, one of aclnnLSTM: add that in",
            id="graph-operator-in-place-of-an-aclnn-function",
        ),
        pytest.param(
            "torch_npu.npu_silu(torch.rand(3).npu())",
            "Add the graph operator in emulator/csrc/legacy/",
            id="graph-operator-by-choice",
        ),
    ],
)
def test_the_message_says_what_to_add(emulated, call, expected):
    """The Python exception names the operator and the folder of the emulator's sources where it belongs."""
    run = emulated(
        f"""
        import torch, torch_npu
        try:
            {call}
            torch.npu.synchronize()
        except RuntimeError as failure:
            print(failure)
        """,
        environment={"TASK_QUEUE_ENABLE": "0"},
    )

    assert expected in " ".join(run.succeeded().stdout.split())
